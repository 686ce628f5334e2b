package servicebus

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/queue"
)

type kind int

const (
	kindQueue kind = iota
	kindTopic
	kindSubscription
)

// entity is a queue, a topic or a subscription.
type entity struct {
	kind   kind
	path   string // as created; "topic/Subscriptions/name" for a subscription
	parent *entity

	main     *node
	dead     *node // nil for a topic
	transfer *node // always empty: nothing is forwarded; nil for a topic

	attributes                 map[string]string // of its admin description, by element name
	created, updated, accessed time.Time
	timer                      *time.Timer // calls tick when something falls due
}

// node is one place that links attach to: an entity or one of its sub-queues.
type node struct {
	entity *entity
	path   string // of the entity, with the sub-queue's
	q      *queue.Queue
	links  []*link // of all kinds
	next   int     // where the next round of deliveries starts
}

func (e *entity) name() string { return e.path[strings.LastIndexByte(e.path, '/')+1:] }

func (e *entity) nodes() []*node {
	if e.kind == kindTopic {
		return []*node{e.main}
	}
	return []*node{e.main, e.dead, e.transfer}
}

// config turns the admin description into what the queue goes by.
func (e *entity) config() (queue.Config, error) {
	c := queue.Config{
		Name:                   e.path,
		DeadLetterOnExpiration: e.attributes["DeadLetteringOnMessageExpiration"] == "true",
		RequiresSession:        e.attributes["RequiresSession"] == "true",
	}
	var err error
	duration := func(name string) time.Duration {
		text, ok := e.attributes[name]
		if !ok {
			return 0
		}
		d, parseErr := parseDuration(text)
		if err == nil && parseErr != nil {
			err = fmt.Errorf("%s of %s: %w", name, e.path, parseErr)
		}
		return d
	}
	c.LockDuration = duration("LockDuration")
	if c.DefaultTTL = duration("DefaultMessageTimeToLive"); c.DefaultTTL == math.MaxInt64 {
		c.DefaultTTL = 0
	}
	if e.attributes["RequiresDuplicateDetection"] == "true" {
		c.DuplicateWindow = duration("DuplicateDetectionHistoryTimeWindow")
	}
	if text, ok := e.attributes["MaxDeliveryCount"]; ok {
		n, parseErr := strconv.ParseUint(text, 10, 31)
		if parseErr != nil || n == 0 {
			return c, fmt.Errorf("MaxDeliveryCount of %s: %q is not a positive number", e.path, text)
		}
		c.MaxDeliveryCount = uint32(n)
	}
	if err == nil && e.kind != kindTopic && (c.LockDuration <= 0 || c.LockDuration > 5*time.Minute) {
		err = fmt.Errorf("LockDuration of %s must be above zero and at most five minutes", e.path)
	}
	return c, err
}

// add creates an entity from its attributes; what they leave out gets the
// service's defaults. It is for the caller to check that the name is free.
func (s *Server) add(k kind, path string, parent *entity, attributes map[string]string) (*entity, error) {
	e := &entity{kind: k, path: path, parent: parent, attributes: withDefaults(k, attributes)}
	if k != kindSubscription {
		if err := validName(path); err != nil {
			return nil, err
		}
	} else if strings.Contains(e.path[len(parent.path)+len("/Subscriptions/"):], "/") || e.name() == "" {
		return nil, fmt.Errorf("%q is not a name for a subscription", e.name())
	}
	c, err := e.config()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	e.created, e.updated = now, now
	if parent != nil { // the others count as accessed once they have been
		e.accessed, parent.accessed = now, now
	}
	if k == kindTopic {
		e.main = &node{entity: e, path: path, q: queue.NewTopic(c, func() []*queue.Queue { return s.subscriptionQueues(e) })}
	} else {
		q := queue.New(c)
		e.main = &node{entity: e, path: path, q: q}
		e.dead = &node{entity: e, path: path + "/$DeadLetterQueue", q: q.DeadLetters()}
		e.transfer = &node{entity: e, path: path + "/$Transfer/$DeadLetterQueue", q: queue.New(queue.Config{Name: path, LockDuration: c.LockDuration}).DeadLetters()}
	}
	s.entities[strings.ToLower(path)] = e
	return e, nil
}

func (s *Server) subscriptions(topic *entity) []*entity {
	var subs []*entity
	for _, e := range s.entities {
		if e.parent == topic {
			subs = append(subs, e)
		}
	}
	return subs
}

func (s *Server) subscriptionQueues(topic *entity) []*queue.Queue {
	var queues []*queue.Queue
	for _, e := range s.subscriptions(topic) {
		queues = append(queues, e.main.q)
	}
	return queues
}

// create makes the entities that the configuration asks for.
func (s *Server) create(entities Entities) error {
	settings := func(c Settings) map[string]string {
		a := map[string]string{
			"DeadLetteringOnMessageExpiration": strconv.FormatBool(c.DeadLetteringOnMessageExpiration),
			"RequiresSession":                  strconv.FormatBool(c.RequiresSession),
		}
		setDuration(a, "LockDuration", c.LockDuration)
		setDuration(a, "DefaultMessageTimeToLive", c.DefaultMessageTimeToLive)
		if c.MaxDeliveryCount != 0 {
			a["MaxDeliveryCount"] = strconv.Itoa(c.MaxDeliveryCount)
		}
		return a
	}
	for _, q := range entities.Queues {
		a := settings(q.Settings)
		a["RequiresDuplicateDetection"] = strconv.FormatBool(q.RequiresDuplicateDetection)
		setDuration(a, "DuplicateDetectionHistoryTimeWindow", q.DuplicateDetectionHistoryTimeWindow)
		if _, err := s.addNew(kindQueue, q.Name, nil, a); err != nil {
			return err
		}
	}
	for _, t := range entities.Topics {
		a := map[string]string{"RequiresDuplicateDetection": strconv.FormatBool(t.RequiresDuplicateDetection)}
		setDuration(a, "DefaultMessageTimeToLive", t.DefaultMessageTimeToLive)
		setDuration(a, "DuplicateDetectionHistoryTimeWindow", t.DuplicateDetectionHistoryTimeWindow)
		topic, err := s.addNew(kindTopic, t.Name, nil, a)
		if err != nil {
			return err
		}
		for _, sub := range t.Subscriptions {
			if _, err := s.addNew(kindSubscription, t.Name+"/Subscriptions/"+sub.Name, topic, settings(sub.Settings)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) addNew(k kind, path string, parent *entity, attributes map[string]string) (*entity, error) {
	if _, taken := s.entities[strings.ToLower(path)]; taken {
		return nil, fmt.Errorf("entities: %q is there twice", path)
	}
	e, err := s.add(k, path, parent, attributes)
	if err != nil {
		return nil, fmt.Errorf("entities: %w", err)
	}
	return e, nil
}

func setDuration(attributes map[string]string, name string, d Duration) {
	if d != 0 {
		attributes[name] = formatDuration(time.Duration(d))
	}
}

// Address suffixes, azservicebus receiver.go and internal/amqpLinks.go.
const (
	suffixManagement = "/$management"
	suffixDead       = "/$deadletterqueue"
	suffixTransfer   = "/$transfer/$deadletterqueue"
)

// resolve finds what an address means. Names compare case-insensitively.
func (s *Server) resolve(address string) (n *node, management, ok bool) {
	path := entityPath(address)
	path, management = strings.CutSuffix(path, suffixManagement)
	path, transfer := strings.CutSuffix(path, suffixTransfer)
	dead := false
	if !transfer {
		path, dead = strings.CutSuffix(path, suffixDead)
	}
	e, ok := s.entities[path]
	switch {
	case !ok:
		return nil, false, false
	case transfer:
		n = e.transfer
	case dead:
		n = e.dead
	default:
		n = e.main
	}
	return n, management, n != nil
}

// entityPath strips an address or a URI down to the lower-case path.
func entityPath(uri string) string {
	if _, rest, ok := strings.Cut(uri, "://"); ok {
		_, uri, _ = strings.Cut(rest, "/")
	}
	uri, _, _ = strings.Cut(uri, "?")
	return strings.ToLower(strings.Trim(uri, "/"))
}

// remove takes an entity out, with a topic's subscriptions, and closes its links.
func (s *Server) remove(e *entity) {
	for _, sub := range s.subscriptions(e) {
		s.remove(sub)
	}
	delete(s.entities, strings.ToLower(e.path))
	detachAll(linksOf(e), notFound(e.path))
	if e.timer != nil {
		e.timer.Stop()
	}
}
