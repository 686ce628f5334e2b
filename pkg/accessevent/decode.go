package accessevent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"regexp"
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
)

// RequestType is the type of a CloudEvent that is a request. Its data is a request
// message.
const RequestType = "io.portcullis.access.request.v1"

// maxAttributes bounds the attributes of a CloudEvent.
const maxAttributes = 64

// The prefixes that mark attributes among the application properties of a message
// (CloudEvents AMQP binding 1.0.2, 3.1.3.1).
var prefixes = []string{"cloudEvents:", "cloudEvents_"}

// Request is what a CloudEvent asks for.
type Request struct {
	// ClientID derives from the source and the id, which are unique together: the
	// same event again is the same request.
	ClientID string
	Data     []byte // a request message, not yet decoded
}

// Properties gives those of a message's application properties that say what its
// body is; without them it is not the same message.
func Properties(all map[string]string) map[string]string {
	out := map[string]string{}
	for name, v := range all {
		if _, ok := attribute(name); ok {
			out[name] = v
		}
	}
	return out
}

func attribute(property string) (name string, ok bool) {
	for _, p := range prefixes {
		if name, ok = strings.CutPrefix(property, p); ok {
			return name, true
		}
	}
	return "", false
}

// DecodeRequest reads a message that is a CloudEvent: in structured mode by its
// content type, in binary mode by its application properties. is tells whether it
// is one at all. Errors are invalid_argument: cloudevent_invalid,
// cloudevent_format_unknown, cloudevent_version_unknown, cloudevent_type_unknown,
// cloudevent_data_not_json; and what accessjson.CheckObject refuses.
func DecodeRequest(contentType string, properties map[string]string, body []byte) (r Request, is bool, err error) {
	attributes := Properties(properties)
	structured := strings.HasPrefix(strings.ToLower(strings.TrimSpace(contentType)), "application/cloudevents")
	switch {
	case structured && len(attributes) > 0:
		return r, true, invalid("", "the message is a CloudEvent by its content type, and has attributes of one among its properties: send it in one mode")
	case structured:
		r, err = decodeStructured(contentType, body)
	case len(attributes) > 0:
		r, err = decodeBinary(contentType, attributes, body)
	default:
		return r, false, nil
	}
	return r, true, err
}

func decodeStructured(contentType string, body []byte) (Request, error) {
	media, params, err := mime.ParseMediaType(contentType)
	charset, named := params["charset"]
	if err != nil || media != ContentType || named && !strings.EqualFold(charset, "utf-8") {
		return Request{}, fault("", "cloudevent_format_unknown", "a structured CloudEvent has the content type "+ContentType+", in UTF-8")
	}
	if err := accessjson.CheckObject(body); err != nil {
		return Request{}, err
	}
	if err := checkMembers(body); err != nil {
		return Request{}, err
	}
	var ce event.Event
	if err := json.Unmarshal(body, &ce); err != nil {
		return Request{}, invalid("", "the CloudEvent cannot be read")
	}
	return requestOf(ce)
}

var attributeName = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// checkMembers looks at the members of a structured CloudEvent before the SDK
// does, which takes the value of one for another's.
func checkMembers(body []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || len(members) > maxAttributes {
		return invalid("", "the CloudEvent is not an object of at most %d members", maxAttributes)
	}
	_, plain := members["data"]
	_, encoded := members["data_base64"]
	if plain && encoded {
		return invalid("data_base64", "the CloudEvent has both data and data_base64")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if name == "data" {
			continue
		}
		if name != "data_base64" && !attributeName.MatchString(name) {
			return invalid("", "the name of an attribute is not of lower-case letters and digits: %+q", name[:min(len(name), 64)])
		}
		if first := members[name][0]; first == '{' || first == '[' || first != '"' && known(name) {
			return invalid(name, "%s is not a string", name)
		}
	}
	var version string
	if err := json.Unmarshal(members["specversion"], &version); err != nil || version != event.CloudEventsVersionV1 {
		return versionUnknown()
	}
	return nil
}

// known says whether the member is one of the specification's own, all of which
// are strings.
func known(name string) bool {
	return slices.Contains([]string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data_base64"}, name)
}

func decodeBinary(contentType string, properties map[string]string, body []byte) (Request, error) {
	if len(body) > accessjson.MaxBody {
		return Request{}, fault("", "body_too_large", "the message has %d bytes; %d are allowed", len(body), accessjson.MaxBody)
	}
	attributes := map[string]string{}
	for _, property := range slices.Sorted(maps.Keys(properties)) {
		name, _ := attribute(property)
		if !attributeName.MatchString(name) || name == "datacontenttype" || len(attributes) == maxAttributes {
			return Request{}, invalid("", "the property %+q is no attribute of a binary CloudEvent", property[:min(len(property), 80)])
		}
		if _, twice := attributes[name]; twice {
			return Request{}, invalid(name, "the attribute %s is given twice", name)
		}
		attributes[name] = properties[property]
	}
	if attributes["specversion"] != event.CloudEventsVersionV1 {
		return Request{}, versionUnknown()
	}
	ce := event.New(event.CloudEventsVersionV1)
	for name, v := range attributes {
		switch name {
		case "specversion":
		case "id":
			ce.SetID(v)
		case "source":
			ce.SetSource(v)
		case "type":
			ce.SetType(v)
		case "subject":
			ce.SetSubject(v)
		case "dataschema":
			ce.SetDataSchema(v)
		case "time":
			// A sender's typed time comes from the host in a form of its own, and is not
			// what a request is judged by.
		default:
			ce.SetExtension(name, v)
		}
	}
	if contentType != "" {
		ce.SetDataContentType(contentType)
	}
	ce.DataEncoded = body
	return requestOf(ce)
}

// requestOf holds the event against what a request is.
func requestOf(ce event.Event) (Request, error) {
	if err := ce.Validate(); err != nil {
		where, list := "", []string{}
		if v, ok := errors.AsType[event.ValidationError](err); ok {
			list = slices.Sorted(maps.Keys(v))
			where = list[0]
		}
		return Request{}, invalid(where, "the CloudEvent lacks or spoils: %s", strings.Join(list, ", "))
	}
	if ce.Type() != RequestType {
		return Request{}, fault("type", "cloudevent_type_unknown", "a CloudEvent here has the type %s", RequestType)
	}
	if text := ce.DataContentType(); text != "" {
		media, params, err := mime.ParseMediaType(text)
		charset, named := params["charset"]
		if err != nil || media != event.ApplicationJSON && media != event.TextJSON || named && !strings.EqualFold(charset, "utf-8") {
			return Request{}, fault("datacontenttype", "cloudevent_data_not_json", "the data of the CloudEvent is application/json, in UTF-8")
		}
	}
	if len(ce.Data()) == 0 {
		return Request{}, fault("data", "cloudevent_data_not_json", "the CloudEvent has no data")
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(ce.Source()), ce.Source(), ce.ID()))
	return Request{ClientID: "ce-" + hex.EncodeToString(sum[:]), Data: ce.Data()}, nil
}

func versionUnknown() error {
	return fault("specversion", "cloudevent_version_unknown", "specversion is %s", event.CloudEventsVersionV1)
}

func invalid(path, format string, args ...any) error {
	return fault(path, "cloudevent_invalid", format, args...)
}

func fault(path, reason, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	return &access.Error{Code: access.InvalidArgument, Reason: reason, Message: message, Violations: []access.Violation{{Path: path, Reason: reason, Message: message}}}
}
