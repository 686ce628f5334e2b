package servicebus

import (
	"encoding/xml"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// XML namespaces of the Atom admin API (azservicebus, internal/atom).
const (
	nsAtom       = "http://www.w3.org/2005/Atom"
	nsServiceBus = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
	nsInstance   = "http://www.w3.org/2001/XMLSchema-instance"
)

// element is a piece of XML to be written.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Inner    string     `xml:",innerxml"`
	Children []element  `xml:",any"`
}

func textElement(name, text string) element {
	return element{XMLName: xml.Name{Local: name}, Text: text}
}

func parentElement(name string, children ...element) element {
	return element{XMLName: xml.Name{Local: name}, Children: children}
}

func (e element) with(name, value string) element {
	e.Attrs = append(e.Attrs, xml.Attr{Name: xml.Name{Local: name}, Value: value})
	return e
}

// setting is an element of a description that a client may set, and its value
// if it does not; "" is for those that are then left out.
type setting struct{ name, initial string }

// isXML tells whether a setting is kept and given back as it came.
func (s setting) isXML() bool {
	return s.name == "AuthorizationRules" || s.name == "DefaultRuleDescription"
}

// Elements that only the server knows stand among the settings, in the order
// in which the service gives them.
const computed = "\x00"

// settings lists what the description of an entity is made of (azservicebus,
// internal/atom/models.go; defaults: Service Bus documentation).
func (k kind) settings() []setting {
	switch k {
	case kindTopic:
		return []setting{
			{"DefaultMessageTimeToLive", maxTimeSpan}, {"MaxSizeInMegabytes", "1024"}, {"RequiresDuplicateDetection", "false"},
			{"DuplicateDetectionHistoryTimeWindow", "PT10M"}, {"EnableBatchedOperations", "true"}, {"SizeInBytes", computed},
			{"FilteringMessagesBeforePublishing", "false"}, {"IsAnonymousAccessible", "false"}, {"AuthorizationRules", ""}, {"Status", "Active"},
			{"UserMetadata", ""}, {"CreatedAt", computed}, {"UpdatedAt", computed}, {"AccessedAt", computed}, {"SupportOrdering", "true"},
			{"CountDetails", computed}, {"SubscriptionCount", computed}, {"AutoDeleteOnIdle", maxTimeSpan}, {"EnablePartitioning", "false"},
			{"EntityAvailabilityStatus", "Available"}, {"EnableExpress", "false"}, {"MaxMessageSizeInKilobytes", "256"},
		}
	case kindSubscription:
		return []setting{
			{"LockDuration", "PT1M"}, {"RequiresSession", "false"}, {"DefaultMessageTimeToLive", maxTimeSpan},
			{"DeadLetteringOnMessageExpiration", "false"}, {"DeadLetteringOnFilterEvaluationExceptions", "true"}, {"DefaultRuleDescription", ""},
			{"MessageCount", computed}, {"MaxDeliveryCount", "10"}, {"EnableBatchedOperations", "true"}, {"Status", "Active"}, {"ForwardTo", ""}, {"CreatedAt", computed},
			{"UpdatedAt", computed}, {"AccessedAt", computed}, {"UserMetadata", ""}, {"ForwardDeadLetteredMessagesTo", ""},
			{"CountDetails", computed}, {"AutoDeleteOnIdle", maxTimeSpan}, {"EntityAvailabilityStatus", "Available"},
		}
	}
	return []setting{
		{"LockDuration", "PT1M"}, {"MaxSizeInMegabytes", "1024"}, {"RequiresDuplicateDetection", "false"}, {"RequiresSession", "false"},
		{"DefaultMessageTimeToLive", maxTimeSpan}, {"DeadLetteringOnMessageExpiration", "false"},
		{"DuplicateDetectionHistoryTimeWindow", "PT10M"}, {"MaxDeliveryCount", "10"}, {"EnableBatchedOperations", "true"},
		{"SizeInBytes", computed}, {"MessageCount", computed}, {"IsAnonymousAccessible", "false"}, {"AuthorizationRules", ""},
		{"Status", "Active"}, {"ForwardTo", ""}, {"UserMetadata", ""}, {"CreatedAt", computed}, {"UpdatedAt", computed},
		{"AccessedAt", computed}, {"SupportOrdering", "true"}, {"CountDetails", computed}, {"AutoDeleteOnIdle", maxTimeSpan},
		{"EnablePartitioning", "false"}, {"EntityAvailabilityStatus", "Available"}, {"EnableExpress", "false"},
		{"ForwardDeadLetteredMessagesTo", ""}, {"MaxMessageSizeInKilobytes", "256"},
	}
}

func (k kind) descriptionName() string {
	return [...]string{"QueueDescription", "TopicDescription", "SubscriptionDescription"}[k]
}

func withDefaults(k kind, attributes map[string]string) map[string]string {
	all := map[string]string{}
	for _, s := range k.settings() {
		if s.initial != "" && s.initial != computed {
			all[s.name] = s.initial
		}
	}
	maps.Copy(all, attributes)
	return all
}

// parseDescription reads the body of a PUT: which kind it describes, and the
// settings in it. What only the server knows, and what it does not know, is
// left out.
func parseDescription(data []byte) (kind, map[string]string, error) {
	var entry struct {
		Content struct {
			Description struct {
				XMLName  xml.Name
				Elements []struct {
					XMLName xml.Name
					Text    string `xml:",chardata"`
					Inner   string `xml:",innerxml"`
				} `xml:",any"`
			} `xml:",any"`
		} `xml:"content"`
	}
	if err := xml.Unmarshal(data, &entry); err != nil {
		return 0, nil, fmt.Errorf("the body is not an Atom entry: %w", err)
	}
	description := entry.Content.Description
	for _, k := range []kind{kindQueue, kindTopic, kindSubscription} {
		if description.XMLName.Local != k.descriptionName() {
			continue
		}
		attributes := map[string]string{}
		for _, e := range description.Elements {
			for _, s := range k.settings() {
				if s.name != e.XMLName.Local || s.initial == computed {
					continue
				}
				text := strings.TrimSpace(e.Text)
				if s.isXML() {
					text = strings.TrimSpace(e.Inner)
				}
				if text != "" {
					attributes[s.name] = text
				}
			}
		}
		return k, attributes, nil
	}
	return 0, nil, fmt.Errorf("the entry describes no queue, topic or subscription")
}

// describe makes the entry for an entity.
func (s *Server) describe(e *entity, host string) element {
	description := parentElement(e.kind.descriptionName()).with("xmlns", nsServiceBus).with("xmlns:i", nsInstance)
	for _, st := range e.kind.settings() {
		if st.initial == computed {
			description.Children = append(description.Children, s.compute(e, st.name))
			continue
		}
		value, ok := e.attributes[st.name]
		switch {
		case !ok:
		case st.isXML():
			description.Children = append(description.Children, element{XMLName: xml.Name{Local: st.name}, Inner: value})
		default:
			description.Children = append(description.Children, textElement(st.name, value))
		}
	}
	return atomEntry(host, e.path, e.name(), e.created, e.updated, description)
}

func (s *Server) compute(e *entity, name string) element {
	counts := s.count(e)
	switch name {
	case "SizeInBytes":
		return textElement(name, strconv.FormatInt(counts.Size, 10))
	case "MessageCount":
		return textElement(name, strconv.Itoa(counts.Active+counts.Scheduled+counts.DeadLettered))
	case "CreatedAt":
		return textElement(name, stamp(e.created))
	case "UpdatedAt":
		return textElement(name, stamp(e.updated))
	case "AccessedAt":
		return textElement(name, stamp(e.accessed))
	case "SubscriptionCount":
		return textElement(name, strconv.Itoa(len(s.subscriptions(e))))
	}
	const nsCounts = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
	details := parentElement("CountDetails").with("xmlns:d2p1", nsCounts)
	for _, c := range []struct {
		name string
		n    int
	}{
		{"ActiveMessageCount", counts.Active}, {"DeadLetterMessageCount", counts.DeadLettered},
		{"ScheduledMessageCount", counts.Scheduled}, {"TransferMessageCount", 0}, {"TransferDeadLetterMessageCount", 0},
	} {
		details.Children = append(details.Children, textElement("d2p1:"+c.name, strconv.Itoa(c.n)))
	}
	return details
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func atomEntry(host, path, title string, published, updated time.Time, content element) element {
	self := "https://" + host + "/" + path + "?api-version=2021-05"
	return parentElement("entry",
		textElement("id", self),
		textElement("title", title).with("type", "text"),
		textElement("published", stamp(published)),
		textElement("updated", stamp(updated)),
		parentElement("author", textElement("name", "localazure")),
		parentElement("link").with("rel", "self").with("href", self),
		parentElement("content", content).with("type", "application/xml"),
	).with("xmlns", nsAtom)
}
