package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Entity is a queue or a subscription of Service Bus as it stands.
type Entity struct {
	Settings map[string]any // by the names of entities.json, in its notation
	Active   bool
	Waiting  int // messages
	Dead     int
}

// Bus reads the entities of the namespace.
type Bus interface {
	// Queue, and Subscription of a topic. Error not_found.
	Queue(ctx context.Context, name string) (Entity, error)
	Subscription(ctx context.Context, topic, name string) (Entity, error)
}

// compared are the settings on which behaviour rests, with why.
var compared = map[string]string{
	"lockDuration":                     "a call that takes longer is delivered again while it runs",
	"maxDeliveryCount":                 "it is how often a message is tried",
	"requiresSession":                  "sessions make one writer of each network security group the rule; it cannot be changed, so the entity has to be made anew",
	"requiresDuplicateDetection":       "it would swallow prompts; it cannot be changed, so the entity has to be made anew",
	"deadLetteringOnMessageExpiration": "it says where a message goes whose time is over",
	"defaultMessageTimeToLive":         "a delayed close must outlive the longest grant",
}

// ServiceBus compares the queues and subscriptions with what the deployment
// makes, and counts what is stuck.
func ServiceBus(entities []byte, bus Bus) Check {
	return Check{"service bus", func(ctx context.Context, r *Report) {
		var want struct {
			Queues []map[string]any `json:"queues"`
			Topics []struct {
				Name          string           `json:"name"`
				Subscriptions []map[string]any `json:"subscriptions"`
			} `json:"topics"`
		}
		if err := json.Unmarshal(entities, &want); err != nil {
			r.failed("the list of entities", err, "")
			return
		}
		for _, q := range want.Queues {
			name := fmt.Sprint(q["name"])
			have, err := bus.Queue(ctx, name)
			entity(r, "the queue "+name, q, have, err)
			if forbidden(err) {
				return
			}
		}
		for _, t := range want.Topics {
			for _, s := range t.Subscriptions {
				name := fmt.Sprint(s["name"])
				have, err := bus.Subscription(ctx, t.Name, name)
				entity(r, fmt.Sprintf("the subscription %s of the topic %s", name, t.Name), s, have, err)
			}
		}
	}}
}

func forbidden(err error) bool { return access.ReasonOf(err) == "azure_permission" }

func entity(r *Report, what string, want map[string]any, have Entity, err error) {
	switch {
	case access.CodeOf(err) == access.NotFound:
		r.Fault(what+" does not exist", "deploy the infrastructure")
		return
	case forbidden(err):
		r.Skip("your identity may not read the entities: it takes Azure Service Bus Data Owner on the namespace")
		return
	case err != nil:
		r.failed(what, err, "")
		return
	}
	good := true
	if !have.Active {
		good = false
		r.Fault(what+" is disabled", "enable it: nothing is sent or received meanwhile")
	}
	var names []string
	for name := range compared {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if w, ok := want[name]; ok && fmt.Sprint(have.Settings[name]) != fmt.Sprint(w) {
			good = false
			r.Fault(fmt.Sprintf("%s has %s %v, and not %v", what, name, have.Settings[name], w), compared[name])
		}
	}
	if have.Dead > 0 {
		good = false
		r.Warn(fmt.Sprintf("%s holds %d dead letters", what, have.Dead), "docs/playbooks.md says what to do with them")
	}
	if good {
		r.Ok(fmt.Sprintf("%s is as it was deployed; %d messages wait", what, have.Waiting))
	}
}
