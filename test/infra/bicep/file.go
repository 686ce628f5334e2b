package bicep

// File is a Bicep file, or a file of parameters.
type File struct {
	TargetScope string // "" is the default, resourceGroup
	Using       string // of a file of parameters
	Params      []*Decl
	Vars        []*Decl
	Resources   []*Decl
	Modules     []*Decl
	Outputs     []*Decl
}

// Decl is a statement that gives something a name.
type Decl struct {
	Name       string
	Line       int
	Decorators []*Node
	// Type is that of a param or output, type@version of a resource, and the path
	// of a module.
	Type     string
	Existing bool
	// Value is the default of a param, the value of anything else.
	Value *Node
}

// Kind is the form of a Node.
type Kind int

// The forms.
const (
	String  Kind = iota // Text, and Items for what is in ${…}
	Literal             // a number, true, false or null: Text
	Name                // Text
	Object              // Keys with Items
	Array               // Items
	Call                // Text is the function, Items its arguments, On what it is called on
	Member              // On, Text
	Index               // On, Items[0]
	Op                  // operators: Text, Items
	For                 // Vars over Items[0], Items[1] each, where Items[2] if there
	If                  // Items[0] the condition, Items[1] the value
	Lambda              // Vars, Items[0]
)

// Node is an expression.
type Node struct {
	Kind  Kind
	Text  string
	Keys  []*Node // of an object: strings
	Items []*Node
	Vars  []string
	On    *Node
	Line  int
}

// Walk calls f for the node and all below it, until f says false.
func (n *Node) Walk(f func(*Node) bool) {
	if n == nil || !f(n) {
		return
	}
	n.On.Walk(f)
	for _, k := range n.Keys {
		k.Walk(f)
	}
	for _, i := range n.Items {
		i.Walk(f)
	}
}

// Get gives the value of a key of an object; nil where there is none.
func (n *Node) Get(key string) *Node {
	if n = n.Body(); n == nil || n.Kind != Object {
		return nil
	}
	for i, k := range n.Keys {
		if k.Text == key {
			return n.Items[i]
		}
	}
	return nil
}

// Body looks through a loop and a condition to what is in it.
func (n *Node) Body() *Node {
	for n != nil && (n.Kind == For || n.Kind == If) {
		n = n.Items[1]
	}
	return n
}
