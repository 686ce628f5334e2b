package expression

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// Folded makes a value for a variable of the type TextMap whose keys are found
// whatever the case of their ASCII letters, as the names of Azure's tags are; a
// walk over it gives them in lower case. Error: two keys that differ in nothing
// else.
func Folded(m map[string]string) (any, error) {
	lower := make(map[string]string, len(m))
	for k, v := range m {
		key := access.FoldName(k)
		if _, twice := lower[key]; twice {
			return nil, fmt.Errorf("%q is there twice", key)
		}
		lower[key] = v
	}
	return folded{types.NewStringStringMap(types.DefaultTypeAdapter, lower)}, nil
}

type folded struct{ traits.Mapper }

func fold(key ref.Val) ref.Val {
	if s, ok := key.(types.String); ok {
		return types.String(access.FoldName(string(s)))
	}
	return key
}

func (f folded) Find(key ref.Val) (ref.Val, bool) { return f.Mapper.Find(fold(key)) }
func (f folded) Get(key ref.Val) ref.Val          { return f.Mapper.Get(fold(key)) }
func (f folded) Contains(key ref.Val) ref.Val     { return f.Mapper.Contains(fold(key)) }

// Uses says whether the expression names the variable.
func (p *Program) Uses(name string) bool { return slices.Contains(p.uses, name) }
