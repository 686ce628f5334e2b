// Package expression compiles and runs the CEL expressions of policies and
// mappings. What is compiled is checked; what runs is bounded in cost, sees
// nothing but its variables, and fails closed: whatever goes wrong is an error.
package expression

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// The bounds of an expression.
const (
	// MaxLength is how many characters an expression may have.
	MaxLength = 4096
	maxNodes  = 2_000
	maxDepth  = 50
	maxRegex  = 500
	// maxCost bounds a run in CEL's own unit, about one operation or one element:
	// far more than any sensible expression needs, and some milliseconds at most.
	maxCost = 200_000
	// maxTime bounds a run should its cost have been misjudged.
	maxTime = 2 * time.Second
)

// Type is what a variable or a result is.
type Type int

// The types.
const (
	Any     Type = iota // whatever a JSON value may be
	Text                // string
	Number              // int
	Truth               // bool
	Time                // timestamp
	TextMap             // map from string to string
	Texts               // list of strings
)

var celTypes = [...]*cel.Type{
	Any: cel.DynType, Text: cel.StringType, Number: cel.IntType, Truth: cel.BoolType, Time: cel.TimestampType,
	TextMap: cel.MapType(cel.StringType, cel.StringType), Texts: cel.ListType(cel.StringType),
}

// Var declares a variable. Its name may have dots ("request.port"): each part is
// then checked when an expression is compiled, so that a misspelt one is found.
type Var struct {
	Name string
	Type Type
}

// Env is what expressions of one kind may use: its variables, CEL's standard
// library, optional fields (a.?b), and the extensions for strings and network
// addresses. It is safe for concurrent use.
type Env struct{ env *cel.Env }

// NewEnv makes an Env. It fails for variables that contradict each other.
func NewEnv(vars ...Var) (*Env, error) {
	opts := []cel.EnvOption{
		cel.OptionalTypes(), ext.Strings(), ext.Network(),
		cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(MaxLength), cel.ExpressionNodeLimit(maxNodes), cel.ParserRecursionLimit(maxDepth), cel.RegexProgramSizeLimit(maxRegex),
	}
	for _, v := range vars {
		opts = append(opts, cel.Variable(v.Name, celTypes[v.Type]))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("expression: %w", err)
	}
	return &Env{env}, nil
}

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	program cel.Program
	source  *ast.SourceInfo
	uses    []string
}

// Fault is what is wrong with an expression, and where.
type Fault struct {
	Line, Column int // from 1; 0 when unknown
	Message      string
}

func (f Fault) String() string {
	if f.Line == 0 {
		return f.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, f.Message)
}

// FaultOf gives the place and message of an error of Compile or Run.
func FaultOf(err error) (Fault, bool) {
	f, ok := errors.AsType[*faultError](err)
	if !ok {
		return Fault{}, false
	}
	return f.fault, true
}

type faultError struct{ fault Fault }

func (f *faultError) Error() string { return f.fault.String() }

func failed(reason string, f Fault) error {
	return &access.Error{Code: access.InvalidArgument, Reason: reason, Message: f.String(), Err: &faultError{f}}
}

// Compile checks an expression that is to give a value of the type. Errors:
// invalid_argument, expression_invalid, with the first fault's line and column.
func (e *Env) Compile(text string, result Type) (*Program, error) {
	if strings.TrimSpace(text) == "" {
		return nil, failed("expression_invalid", Fault{Message: "the expression is empty"})
	}
	if len([]rune(text)) > MaxLength {
		return nil, failed("expression_invalid", Fault{Message: fmt.Sprintf("the expression has more than %d characters", MaxLength)})
	}
	checked, issues := e.env.Compile(text)
	if err := issues.Err(); err != nil {
		f := Fault{Message: "it cannot be understood"}
		if all := issues.Errors(); len(all) > 0 {
			first := all[0]
			f = Fault{Line: first.Location.Line(), Column: first.Location.Column() + 1, Message: clean(first.Message)}
		}
		return nil, failed("expression_invalid", f)
	}
	if want := celTypes[result]; result != Any && !checked.OutputType().IsExactType(want) && !checked.OutputType().IsExactType(cel.DynType) {
		return nil, failed("expression_invalid", Fault{Line: 1, Column: 1, Message: fmt.Sprintf("it gives %s, and %s is needed", checked.OutputType(), want)})
	}
	program, err := e.env.Program(checked, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, failed("expression_invalid", Fault{Message: clean(err.Error())})
	}
	p := &Program{program: program, source: checked.NativeRep().SourceInfo()}
	for _, r := range checked.NativeRep().ReferenceMap() {
		if r.Name != "" && !slices.Contains(p.uses, r.Name) {
			p.uses = append(p.uses, r.Name)
		}
	}
	return p, nil
}

// Run evaluates the expression over the variables, of which every one declared
// must be there. The value is plain Go: nil, bool, int64, uint64, float64,
// string, []byte, time.Time, time.Duration, []any or map[string]any. Errors:
// invalid_argument, expression_failed: a field that is not there, a value of
// another type, too much work.
func (p *Program) Run(ctx context.Context, vars map[string]any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	out, _, err := p.program.ContextEval(ctx, vars)
	if err == nil && types.IsUnknownOrError(out) {
		err, _ = out.(*types.Err)
	}
	if err != nil {
		return nil, failed("expression_failed", p.fault(err))
	}
	v, err := native(out, 0)
	if err != nil {
		return nil, failed("expression_failed", Fault{Message: clean(err.Error())})
	}
	return v, nil
}

// fault finds the place of a failure.
func (p *Program) fault(err error) Fault {
	f := Fault{Message: clean(err.Error())}
	if e, ok := errors.AsType[*types.Err](err); ok {
		if at := p.source.GetStartLocation(e.NodeID()); at.Line() > 0 {
			f.Line, f.Column = at.Line(), at.Column()+1
		}
	}
	return f
}

// clean bounds a message and keeps what is unprintable out of it: it may repeat
// what a stranger sent.
func clean(s string) string {
	const most = 300
	out := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if r := []rune(out); len(r) > most {
		out = string(r[:most]) + "…"
	}
	return out
}
