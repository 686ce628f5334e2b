package store

import (
	"maps"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// Kind is what an Op does.
type Kind int

// The kinds of writes. Merge and Replace without an IfMatch are upserts.
const (
	Insert Kind = iota
	Merge
	Replace
	Delete
)

// Op is one write.
type Op struct {
	Table      string
	Kind       Kind
	Key        Key
	Properties map[string]edm.Value
	IfMatch    string // an ETag, "*", or empty for none; Delete needs one
}

// OpError tells which operation of a transaction was refused.
type OpError struct {
	Index int
	Err   error
}

// Error implements error.
func (e *OpError) Error() string { return e.Err.Error() }

// Unwrap gives the refusal itself.
func (e *OpError) Unwrap() error { return e.Err }

// Apply does all of ops, or none of them and returns an *OpError. They must be
// at most 100, name one table and one partition, and each key once. The result
// holds the new version of each entity, nil for a deleted one.
func (s *Store) Apply(ops []Op) ([]*Entity, error) {
	for i := range ops {
		if err := checkOp(ops, i); err != nil {
			return nil, &OpError{Index: i, Err: err}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick()
	results := make([]*Entity, len(ops))
	undo := make([]func(), 0, len(ops))
	for i, op := range ops {
		t, err := s.table(op.Table)
		var old *Entity
		if err == nil {
			old = t.get(op.Key)
			results[i], err = op.result(old, now)
		}
		if err != nil {
			for _, back := range undo {
				back() // each key occurs once, so the order does not matter
			}
			return nil, &OpError{Index: i, Err: err}
		}
		t.put(op.Key, results[i])
		undo = append(undo, func() { t.put(op.Key, old) })
	}
	return results, nil
}

// checkOp checks what can be told of ops[i] without the stored entities.
func checkOp(ops []Op, i int) error {
	op := ops[i]
	if i == maxBatch-1 && len(ops) > maxBatch {
		return tableerr.New(tableerr.InvalidInput, "The batch request operation exceeds the maximum 100 changes per change set.")
	}
	for _, earlier := range ops[:i] {
		if earlier.Table != op.Table || earlier.Key.Partition != op.Key.Partition {
			return tableerr.New(tableerr.CommandsInBatchActOnDifferentPartitions, "All commands in a batch must operate on same entity group.")
		}
		if earlier.Key == op.Key {
			return tableerr.New(tableerr.InvalidDuplicateRow, "A command with RowKey '%s' is already present in the batch. An entity can appear only once in a batch.", op.Key.Row)
		}
	}
	if err := checkKey(op.Key); err != nil {
		return err
	}
	if op.Kind == Delete {
		if op.IfMatch == "" {
			return tableerr.New(tableerr.MissingRequiredHeader, "An HTTP header that's mandatory for this request is not specified. (If-Match)")
		}
		return nil
	}
	return checkEntity(&Entity{Key: op.Key, Properties: op.Properties})
}

// result is the version that op leaves behind, given the stored one or nil.
func (op Op) result(old *Entity, now edm.Ticks) (*Entity, error) {
	if op.Kind == Insert {
		if old != nil {
			return nil, tableerr.New(tableerr.EntityAlreadyExists, "The specified entity already exists.")
		}
		return &Entity{Key: op.Key, Properties: op.Properties, Modified: now}, nil
	}
	if old == nil && op.IfMatch != "" {
		return nil, resourceNotFound()
	}
	if op.IfMatch != "" && op.IfMatch != "*" && op.IfMatch != old.ETag() {
		return nil, tableerr.New(tableerr.UpdateConditionNotSatisfied, "The update condition specified in the request was not satisfied.")
	}
	if op.Kind == Delete {
		return nil, nil
	}
	updated := &Entity{Key: op.Key, Properties: op.Properties, Modified: now}
	if op.Kind == Merge && old != nil {
		updated.Properties = maps.Clone(old.Properties)
		maps.Copy(updated.Properties, op.Properties)
		return updated, checkEntity(updated)
	}
	return updated, nil
}
