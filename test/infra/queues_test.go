package infra

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
	"github.com/portcullis-access/portcullis/test/infra/bicep"
)

type rights struct {
	Receive struct {
		Queues        []string
		Subscriptions []struct{ Topic, Subscription string }
	}
	Send struct{ Queues, Topics []string }
}

func entities(t *testing.T) servicebus.Entities {
	t.Helper()
	e, err := servicebus.ParseEntities([]byte(readFile(t, "infra/entities.json")))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

type trigger struct{ Type, QueueName, TopicName, SubscriptionName, Connection string }

// triggers reads the Service Bus trigger of each function that has one.
func triggers(t *testing.T) map[string]trigger {
	t.Helper()
	dirs, err := os.ReadDir(filepath.Join(root, "functions"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]trigger{}
	for _, d := range dirs {
		var f struct{ Bindings []trigger }
		if err := json.Unmarshal([]byte(readFile(t, filepath.Join("functions", d.Name(), "function.json"))), &f); err != nil {
			t.Fatal(err)
		}
		if f.Bindings[0].Type == "serviceBusTrigger" {
			out[d.Name()] = f.Bindings[0]
		}
	}
	return out
}

// TestWhatFunctionsReceive: the app may receive from the queues and subscriptions
// of its functions and from no other, and they exist.
func TestWhatFunctionsReceive(t *testing.T) {
	var r rights
	readJSON(t, "infra/rights.json", &r)
	var code, deployed, exist []string
	for name, tr := range triggers(t) {
		if tr.Connection != "ServiceBus" {
			t.Errorf("%s: the deployment sets up the connection ServiceBus, and not %s", name, tr.Connection)
		}
		from, _ := strings.CutSuffix(tr.QueueName, "/$DeadLetterQueue")
		if tr.TopicName != "" {
			sub, _ := strings.CutSuffix(tr.SubscriptionName, "/$DeadLetterQueue")
			from = tr.TopicName + "/" + sub
		}
		code = append(code, from)
	}
	deployed = r.Receive.Queues
	for _, s := range r.Receive.Subscriptions {
		deployed = append(deployed, s.Topic+"/"+s.Subscription)
	}
	same(t, "infra/rights.json, receive", code, deployed)
	for _, q := range entities(t).Queues {
		exist = append(exist, q.Name)
	}
	for _, topic := range entities(t).Topics {
		for _, s := range topic.Subscriptions {
			exist = append(exist, topic.Name+"/"+s.Name)
		}
	}
	for _, name := range code {
		if !slices.Contains(exist, name) {
			t.Errorf("infra/entities.json has no %s", name)
		}
	}
}

// TestWhatTheHandlerSends: the app may send to the queues and topics that the
// handler's wiring names, and to no other.
func TestWhatTheHandlerSends(t *testing.T) {
	var r rights
	readJSON(t, "infra/rights.json", &r)
	named := literals(goFiles(t, "cmd/handler"))
	var queues, topics []string
	for _, q := range entities(t).Queues {
		if slices.Contains(named, q.Name) {
			queues = append(queues, q.Name)
		}
	}
	for _, topic := range entities(t).Topics {
		if slices.Contains(named, topic.Name) {
			topics = append(topics, topic.Name)
		}
	}
	same(t, "infra/rights.json, send to queues", queues, r.Send.Queues)
	same(t, "infra/rights.json, send to topics", topics, r.Send.Topics)
}

// TestEveryPropertyIsDeployed: what infra/entities.json says of a queue, a topic
// or a subscription, the Bicep passes on.
func TestEveryPropertyIsDeployed(t *testing.T) {
	var file struct {
		Queues []map[string]any
		Topics []map[string]any
	}
	if err := json.Unmarshal([]byte(readFile(t, "infra/entities.json")), &file); err != nil {
		t.Fatal(err)
	}
	deployed := map[string]*bicep.Node{}
	for _, r := range bicepFiles(t)["modules/service-bus.bicep"].Resources {
		deployed[r.Name] = r.Value.Get("properties")
	}
	check := func(kind string, entity map[string]any) {
		for key := range entity {
			if key != "name" && key != "subscriptions" && deployed[kind].Get(key) == nil {
				t.Errorf("%s: %s of %v is not deployed", kind, key, entity["name"])
			}
		}
	}
	for _, q := range file.Queues {
		check("queues", q)
	}
	for _, topic := range file.Topics {
		check("topics", topic)
		subs, _ := topic["subscriptions"].([]any)
		for _, s := range subs {
			check("subscriptions", s.(map[string]any))
		}
	}
}
