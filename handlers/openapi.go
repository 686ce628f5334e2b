package handlers

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/ticket"
	"sigs.k8s.io/yaml"
)

//go:embed openapi.yaml
var openAPISource []byte

// openAPI gives the API's document in JSON. It is put together at the first
// call and not before, as the handler must be up in milliseconds.
var openAPI = sync.OnceValues(func() (json.RawMessage, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(openAPISource, &doc); err != nil {
		return nil, fmt.Errorf("handlers: openapi.yaml: %w", err)
	}
	components := doc["components"].(map[string]any)
	schemas := components["schemas"].(map[string]any)
	for name, data := range map[string][]byte{"AccessRequestMessage": accessjson.RequestSchema(), "AccessPolicy": accessjson.PolicySchema(), "TicketSource": ticket.SourceSchema()} {
		var schema map[string]any
		// What a schema refers to lies elsewhere within the document.
		data = bytes.ReplaceAll(data, []byte(`"#/$defs/`), []byte(`"#/components/schemas/`+name+`/$defs/`))
		if err := json.Unmarshal(data, &schema); err != nil {
			return nil, fmt.Errorf("handlers: the schema %s: %w", name, err)
		}
		schemas[name] = schema
	}
	// OpenAPI has no reference to an operation: those that several paths share are
	// written out in each.
	operations := components["x-operations"].(map[string]any)
	delete(components, "x-operations")
	for at, item := range doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			if ref, ok := op.(map[string]any); ok && ref["$ref"] != nil {
				name := strings.TrimPrefix(ref["$ref"].(string), "#/components/x-operations/")
				scope := []string{"OfSubscription", "OfResourceGroup", "OfMachine"}[strings.Count(at, "{")-1]
				shared := map[string]any{"operationId": name + scope}
				for k, v := range operations[name].(map[string]any) {
					shared[k] = v
				}
				item.(map[string]any)[method] = shared
			}
		}
	}
	return json.Marshal(doc)
})
