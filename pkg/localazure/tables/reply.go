package tables

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

const errorCodeHeader = "X-Ms-Error-Code"

// reply is an answer, sent as a response or as a part of a batch's response.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func newReply(status int) *reply { return &reply{status: status, header: http.Header{}} }

func jsonReply(status int, f format, body []byte) *reply {
	r := newReply(status)
	r.header.Set("Content-Type", "application/json;odata="+string(f)+";streaming=true;charset=utf-8")
	r.body = body
	return r
}

func xmlReply(status int, v any) (*reply, error) {
	body, err := xml.Marshal(v)
	if err != nil {
		return nil, err
	}
	r := newReply(status)
	r.header.Set("Content-Type", "application/xml")
	r.body = append([]byte(xml.Header), body...)
	return r, nil
}

// status is the HTTP status that REST reference gives a code.
func status(code tableerr.Code) int {
	switch code {
	case tableerr.NoAuthenticationInformation, tableerr.InvalidAuthenticationInfo:
		return http.StatusUnauthorized
	case tableerr.AuthenticationFailed, tableerr.AuthorizationPermissionMismatch, tableerr.AuthorizationProtocolMismatch,
		tableerr.AuthorizationResourceTypeMismatch, tableerr.AuthorizationServiceMismatch, tableerr.AuthorizationSourceIPMismatch:
		return http.StatusForbidden
	case tableerr.TableNotFound, tableerr.ResourceNotFound:
		return http.StatusNotFound
	case tableerr.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case tableerr.TableAlreadyExists, tableerr.EntityAlreadyExists, tableerr.TableBeingDeleted:
		return http.StatusConflict
	case tableerr.UpdateConditionNotSatisfied:
		return http.StatusPreconditionFailed
	case tableerr.RequestBodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case tableerr.AtomFormatNotSupported:
		return http.StatusUnsupportedMediaType
	case tableerr.NotImplemented:
		return http.StatusNotImplemented
	case tableerr.ServerBusy:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// failure is the answer to an operation that was refused. index is that of the
// operation in its batch, or negative. An error that is no refusal is ours: it
// is logged, and the client is told nothing of it.
func (s *Server) failure(err error, requestID string, asXML bool, index int) *reply {
	e, ok := tableerr.As(err)
	code, message := tableerr.Code("InternalError"), "The server encountered an internal error. Please retry the request."
	statusCode := http.StatusInternalServerError
	if ok {
		code, message, statusCode = e.Code, e.Message, status(e.Code)
	} else {
		s.log.Error("table storage stand-in failed", "request_id", requestID, "error", err)
	}
	if index >= 0 {
		message = strconv.Itoa(index) + ":" + message
	}
	message += "\nRequestId:" + requestID + "\nTime:" + edm.TicksOf(s.now()).String()
	r := newReply(statusCode)
	r.header.Set(errorCodeHeader, string(code))
	if asXML {
		r.header.Set("Content-Type", "application/xml")
		r.body = xmlError(code, message)
		return r
	}
	var text, inner, outer edm.Object
	text.Str("lang", "en-US")
	text.Str("value", message)
	inner.Str("code", string(code))
	inner.Raw("message", text.Bytes())
	outer.Raw("odata.error", inner.Bytes())
	r.header.Set("Content-Type", "application/json;odata=minimalmetadata;streaming=true;charset=utf-8")
	r.body = outer.Bytes()
	return r
}

func xmlError(code tableerr.Code, message string) []byte {
	var b strings.Builder
	b.WriteString(xml.Header + `<error xmlns="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"><code>` + string(code) + `</code><message xml:lang="en-US">`)
	// A strings.Builder never fails, and EscapeText fails only with its writer.
	_ = xml.EscapeText(&b, []byte(message))
	b.WriteString(`</message></error>`)
	return []byte(b.String())
}

// wantsXML: only the service's XML operations ask for application/xml.
func wantsXML(h http.Header) bool {
	accept := h.Get("Accept")
	return strings.Contains(accept, "xml") && !strings.Contains(accept, "json")
}

// format is how much OData metadata an answer carries.
type format string

const (
	noMetadata      format = "nometadata"
	minimalMetadata format = "minimalmetadata"
	fullMetadata    format = "fullmetadata"
)

// payloadFormat is what $format or else Accept asks for. Atom is refused, as it
// is for every version since 2015-12-11, and so is asking for nothing, which
// means Atom.
func payloadFormat(r *request) (format, error) {
	asked := r.query.Get("$format")
	if asked == "" {
		asked = strings.Join(r.header.Values("Accept"), ",")
	}
	asked = strings.ToLower(strings.ReplaceAll(asked, " ", ""))
	if asked == "" || strings.Contains(asked, "xml") && !strings.Contains(asked, "json") {
		return "", atomNotSupported()
	}
	for _, f := range []format{noMetadata, fullMetadata} {
		if strings.Contains(asked, "odata="+string(f)) {
			return f, nil
		}
	}
	return minimalMetadata, nil
}

func checkContentType(h http.Header) error {
	if t := h.Get("Content-Type"); strings.Contains(t, "xml") {
		return atomNotSupported()
	}
	return nil
}

func atomNotSupported() error {
	return tableerr.New(tableerr.AtomFormatNotSupported, "Atom format is not supported.")
}

// wantsContent reads Prefer, which return-content is the default of; applied is
// what Preference-Applied is to say, empty if the client did not ask.
func wantsContent(h http.Header) (content bool, applied string) {
	switch p := h.Get("Prefer"); p {
	case "return-no-content":
		return false, p
	case "return-content":
		return true, p
	}
	return true, ""
}
