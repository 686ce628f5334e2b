package servicebus

import (
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

const (
	maxAdminBody = 1 << 20
	pageSize     = 100 // entries of a feed, unless $top asks for fewer
	// updateLag passes between the answer to an update and the end of the
	// entity's links: azservicebus's live tests hold only if it is not at once.
	updateLag = 200 * time.Millisecond
)

// adminHandler is the Atom admin endpoint (Service Bus REST API, 2021-05).
func (s *Server) adminHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == fault.Path {
			s.faults.ServeHTTP(w, r)
			return
		}
		path := strings.Trim(r.URL.Path, "/")
		cl, err := s.verify(r.Context(), r.Header.Get("Authorization"), strings.ToLower(path))
		if err != nil {
			s.log.Debug("admin request refused", "path", path, "reason", err.Error())
			adminError(w, http.StatusUnauthorized, err.Error())
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
		if err != nil {
			adminError(w, http.StatusRequestEntityTooLarge, "The body cannot be read.")
			return
		}
		strike, done := s.adminFault(w, r, path)
		if done {
			return
		}
		s.mu.Lock()
		status, answer := s.administer(r, path, body, cl)
		s.mu.Unlock()
		switch {
		case strike != nil && strike.Kind == fault.LoseReply:
			panic(http.ErrAbortHandler) // the connection ends
		case answer == nil:
			w.WriteHeader(status)
		default:
			writeXML(w, status, *answer)
		}
	})
}

// adminFault lets a fault befall a request; true if that was all of it.
func (s *Server) adminFault(w http.ResponseWriter, r *http.Request, path string) (strike *fault.Strike, done bool) {
	s.mu.Lock()
	strike = s.strike("manage", path)
	s.mu.Unlock()
	if strike == nil {
		return nil, false
	}
	switch strike.Kind {
	case fault.Throttle:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter(strike)))
		adminError(w, http.StatusServiceUnavailable, "SubCode=50004. The request was terminated because the namespace is being throttled.")
	case fault.Lock:
		adminError(w, http.StatusConflict, "SubCode=40901. Another conflicting operation is in progress.")
	case fault.Refuse:
		adminError(w, http.StatusUnauthorized, "Manage claims are required for this operation.")
	case fault.Drop:
		panic(http.ErrAbortHandler) // the connection ends
	default:
		return strike, strike.Hold(r.Context()) != nil
	}
	return strike, true
}

func writeXML(w http.ResponseWriter, status int, e element) {
	data, err := xml.Marshal(e)
	if err != nil {
		http.Error(w, "the answer could not be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/atom+xml;type=entry;charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may be gone
}

func adminError(w http.ResponseWriter, status int, detail string) {
	_, e := failure(status, detail)
	writeXML(w, status, *e)
}

func failure(status int, detail string) (int, *element) {
	// The service leaves quotes as they are, and clients look for its words.
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(detail)
	e := parentElement("Error", textElement("Code", strconv.Itoa(status)), element{XMLName: xml.Name{Local: "Detail"}, Inner: escaped})
	return status, &e
}

// administer does one request with the lock held; a nil element is an empty answer.
func (s *Server) administer(r *http.Request, path string, body []byte, cl claim) (int, *element) {
	lower := strings.ToLower(path)
	e := s.entities[lower]
	lacks := ""
	if !cl.manage {
		lacks = missingRight(r.Method, lower, e != nil)
	}
	switch {
	case lacks != "":
		return failure(http.StatusUnauthorized, lacks)
	case isRule(lower):
		return s.rules(r, path, lower)
	case r.Method == http.MethodGet:
		return s.get(r, path, lower)
	case r.Method == http.MethodPut:
		return s.put(r, path, e, body)
	case r.Method == http.MethodDelete && e != nil:
		s.remove(e)
		return http.StatusOK, nil
	case r.Method == http.MethodDelete:
		return failure(http.StatusNotFound, notFound(path).Description)
	}
	return failure(http.StatusMethodNotAllowed, "The method is not supported here.")
}

func (s *Server) get(r *http.Request, path, lower string) (int, *element) {
	switch e := s.entities[lower]; {
	case lower == "$namespaceinfo":
		return http.StatusOK, namespaceInfo(r.Host)
	case lower == "$resources/queues" || lower == "$resources/topics":
		return s.list(r, path, func(e *entity) bool { return e.kind == kindOf(lower) })
	case strings.HasSuffix(lower, "/subscriptions"):
		topic := s.entities[strings.TrimSuffix(lower, "/subscriptions")]
		if topic == nil {
			return failure(http.StatusNotFound, notFound(path).Description)
		}
		return s.list(r, path, func(e *entity) bool { return e.parent == topic })
	case e != nil:
		answer := s.describe(e, r.Host)
		return http.StatusOK, &answer
	}
	// Not a 404: the service answers with a feed of nothing.
	answer := feed(r.Host, path, "Publicly Listed Services", nil)
	return http.StatusOK, &answer
}

func kindOf(feedPath string) kind {
	if strings.HasSuffix(feedPath, "topics") {
		return kindTopic
	}
	return kindQueue
}

// put creates an entity or, with If-Match, updates one, which closes its links.
func (s *Server) put(r *http.Request, path string, e *entity, body []byte) (int, *element) {
	k, attributes, err := parseDescription(body)
	update := r.Header.Get("If-Match") != ""
	switch {
	case err != nil:
		return failure(http.StatusBadRequest, err.Error())
	case attributes["ForwardTo"] != "" || attributes["ForwardDeadLetteredMessagesTo"] != "":
		return failure(http.StatusNotImplemented, "Forwarding is not supported by this stand-in.")
	case attributes["DefaultRuleDescription"] != "" && !onlyTrue(attributes["DefaultRuleDescription"]):
		return failure(http.StatusNotImplemented, "Rules are not supported by this stand-in: every subscription gets every message.")
	case update && (e == nil || e.kind != k):
		return failure(http.StatusNotFound, notFound(path).Description)
	case update:
		return s.update(r, e, attributes)
	case e != nil:
		return failure(http.StatusConflict, "SubCode=40900. Conflict. The entity '"+path+"' already exists.")
	}
	return s.post(r, k, path, attributes)
}

// post creates an entity whose path is free.
func (s *Server) post(r *http.Request, k kind, path string, attributes map[string]string) (int, *element) {
	var topic *entity
	if k == kindSubscription {
		i := strings.LastIndex(strings.ToLower(path), "/subscriptions/")
		if i > 0 {
			topic = s.entities[strings.ToLower(path[:i])]
		}
		if topic == nil || topic.kind != kindTopic {
			return failure(http.StatusNotFound, notFound(path).Description)
		}
		path = topic.path + "/Subscriptions/" + path[i+len("/subscriptions/"):]
	}
	e, err := s.add(k, path, topic, attributes)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	answer := s.describe(e, r.Host)
	return http.StatusCreated, &answer
}

// immutable are the settings that an update must leave as they are.
func immutable(name string) bool {
	return name == "RequiresSession" || name == "RequiresDuplicateDetection" || name == "EnablePartitioning"
}

func (s *Server) update(r *http.Request, e *entity, attributes map[string]string) (int, *element) {
	for name, was := range e.attributes {
		switch is, ok := attributes[name]; {
		case !immutable(name):
		case !ok:
			attributes[name] = was
		case is != was && name == "EnablePartitioning":
			return failure(http.StatusBadRequest, "Partitioning cannot be changed for "+strings.TrimSuffix(e.kind.descriptionName(), "Description")+". ")
		case is != was:
			return failure(http.StatusBadRequest, "The value for the "+name+" property of an existing "+
				strings.TrimSuffix(e.kind.descriptionName(), "Description")+" cannot be changed.")
		}
	}
	changed := *e
	changed.attributes = withDefaults(e.kind, attributes)
	c, err := changed.config()
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	e.attributes = changed.attributes
	e.updated = time.Now()
	e.main.q.Reconfigure(c)
	stale := linksOf(e)
	time.AfterFunc(updateLag, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		detachAll(stale, &wire.Error{Condition: condDetachForced, Description: "The entity was updated: its links are closed."})
	})
	s.pump(e)
	answer := s.describe(e, r.Host)
	return http.StatusOK, &answer
}

// list answers with a page of entities in the order of their names.
func (s *Server) list(r *http.Request, path string, wanted func(*entity) bool) (int, *element) {
	var found []*entity
	for _, e := range s.entities {
		if wanted(e) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *entity) int { return strings.Compare(strings.ToLower(a.path), strings.ToLower(b.path)) })
	found = page(r, found)
	var entries []element
	for _, e := range found {
		entries = append(entries, s.describe(e, r.Host))
	}
	answer := feed(r.Host, path, path[strings.LastIndexByte(path, '/')+1:], entries)
	return http.StatusOK, &answer
}

func page[T any](r *http.Request, all []T) []T {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil && n >= 0 {
			return n
		}
		return otherwise
	}
	all = all[min(number("$skip", 0), len(all)):]
	return all[:min(number("$top", pageSize), pageSize, len(all))]
}

func feed(host, path, title string, entries []element) element {
	children := []element{
		textElement("title", title).with("type", "text"),
		textElement("id", "https://"+host+"/"+path),
		textElement("updated", stamp(time.Now())),
	}
	return parentElement("feed", append(children, entries...)...).with("xmlns", nsAtom)
}

// onlyTrue tells whether a rule lets everything through as it is.
func onlyTrue(rule string) bool {
	return strings.Contains(rule, "TrueFilter") && !strings.Contains(rule, "SqlRuleAction")
}

func isRule(lower string) bool {
	_, rest, ok := strings.Cut(lower, "/subscriptions/")
	return ok && strings.Contains(rest+"/", "/rules/")
}

// rules shows the one rule that every subscription has. There are no others:
// to let one be made and then not to apply it would be worse than to refuse.
func (s *Server) rules(r *http.Request, path, lower string) (int, *element) {
	subscription, name, _ := strings.Cut(lower, "/rules")
	e := s.entities[subscription]
	if e == nil || e.kind != kindSubscription {
		return failure(http.StatusNotFound, notFound(path).Description)
	}
	if r.Method != http.MethodGet {
		return failure(http.StatusNotImplemented, "Rules are not supported by this stand-in: every subscription gets every message.")
	}
	filter := parentElement("Filter", textElement("SqlExpression", "1=1"), textElement("CompatibilityLevel", "20")).with("i:type", "TrueFilter")
	rule := parentElement("RuleDescription", filter,
		parentElement("Action").with("i:type", "EmptyRuleAction"),
		textElement("CreatedAt", stamp(e.created)), textElement("Name", "$Default")).
		with("xmlns", nsServiceBus).with("xmlns:i", nsInstance)
	entry := atomEntry(r.Host, e.path+"/Rules/$Default", "$Default", e.created, e.created, rule)
	switch strings.Trim(name, "/") {
	case "$default":
		return http.StatusOK, &entry
	case "":
		answer := feed(r.Host, path, "Rules", page(r, []element{entry}))
		return http.StatusOK, &answer
	}
	answer := feed(r.Host, path, "Publicly Listed Services", nil)
	return http.StatusOK, &answer
}

func namespaceInfo(host string) *element {
	info := parentElement("NamespaceInfo",
		textElement("CreatedTime", "2020-01-01T00:00:00Z"), textElement("MessagingSKU", "Standard"),
		textElement("ModifiedTime", "2020-01-01T00:00:00Z"), textElement("Name", host), textElement("NamespaceType", "Messaging"),
	).with("xmlns", nsServiceBus).with("xmlns:i", nsInstance)
	e := atomEntry(host, "$namespaceinfo", host, time.Now(), time.Now(), info)
	return &e
}
