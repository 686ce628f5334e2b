package broker

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// bulkRemoval is how many rules of ours one scan may find on no record, their time
// not over, before that is an alarm: a late writer leaves one or two, a lost part
// of the record all of them. They are closed all the same. A door that no leg
// accounts for hears of no revocation, no lockdown and no changed target, so it
// must not stand until its own deadline.
const bulkRemoval = 20

// unaccounted counts the rules that the plan removes as no leg accounts for them,
// though their time is not over.
func (s *Scanner) unaccounted(plan nsg.Plan, now time.Time) (n int) {
	for _, r := range plan.Orphans {
		if !s.rules.RuleExpired(r, now) {
			n++
		}
	}
	return n
}

func (s *Scanner) alarmOfBulk(ctx context.Context, unaccounted int) {
	if unaccounted > bulkRemoval {
		s.Log.ErrorContext(ctx, "ALARM many rules of ours are on no record and are closed", "alarm", "bulk_removal", "rules", unaccounted)
	}
}
