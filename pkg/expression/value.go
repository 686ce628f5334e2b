package expression

import (
	"fmt"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// maxValue bounds the depth of a result.
const maxValue = 32

// native turns a value of CEL's into a plain one.
func native(v ref.Val, depth int) (any, error) {
	if depth > maxValue {
		return nil, fmt.Errorf("the result lies deeper than %d levels", maxValue)
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case *types.Optional:
		if !v.HasValue() {
			return nil, nil
		}
		return native(v.GetValue(), depth+1)
	case traits.Mapper:
		out := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			name, ok := key.Value().(string)
			if !ok {
				return nil, fmt.Errorf("a key of the result is %s, and not a string", key.Type().TypeName())
			}
			value, err := native(v.Get(key), depth+1)
			if err != nil {
				return nil, err
			}
			out[name] = value
		}
		return out, nil
	case traits.Lister:
		out := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			value, err := native(it.Next(), depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, value)
		}
		return out, nil
	case types.Bool, types.Int, types.Uint, types.Double, types.String, types.Bytes, types.Timestamp, types.Duration:
		return v.Value(), nil
	}
	return nil, fmt.Errorf("the result is %s, which is none of the values it may be", v.Type().TypeName())
}
