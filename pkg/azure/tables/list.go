package tables

import (
	"context"
)

// Tables names the tables that there are.
func (s *Store) Tables(ctx context.Context) (out []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for pager := s.service.NewListTablesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, failure(err, "listing the tables")
		}
		for _, t := range page.Tables {
			if t.Name != nil {
				out = append(out, *t.Name)
			}
		}
	}
	return out, nil
}
