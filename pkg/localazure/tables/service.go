package tables

import (
	"encoding/xml"
	"net/http"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// The XML of "Set Table Service Properties". A section that is missing from a
// request leaves what was set before.
type serviceProperties struct {
	XMLName       xml.Name  `xml:"StorageServiceProperties"`
	Logging       *logging  `xml:"Logging"`
	HourMetrics   *metrics  `xml:"HourMetrics"`
	MinuteMetrics *metrics  `xml:"MinuteMetrics"`
	Cors          *corsList `xml:"Cors"`
}

type logging struct {
	Version         string
	Delete          bool
	Read            bool
	Write           bool
	RetentionPolicy *retention
}

type metrics struct {
	Version         string
	Enabled         bool
	IncludeAPIs     *bool
	RetentionPolicy *retention
}

type retention struct {
	Enabled bool
	Days    *int
}

type corsList struct {
	Rules []corsRule `xml:"CorsRule"`
}

type corsRule struct {
	AllowedOrigins  string
	AllowedMethods  string
	AllowedHeaders  string
	ExposedHeaders  string
	MaxAgeInSeconds int
}

const (
	maxCorsRules     = 5
	maxRetentionDays = 365
)

// defaultProperties are those of a new account.
func defaultProperties() serviceProperties {
	on, week := true, 7
	return serviceProperties{
		Logging:       &logging{Version: "1.0", RetentionPolicy: &retention{}},
		HourMetrics:   &metrics{Version: "1.0", Enabled: true, IncludeAPIs: &on, RetentionPolicy: &retention{Enabled: true, Days: &week}},
		MinuteMetrics: &metrics{Version: "1.0", RetentionPolicy: &retention{}},
		Cors:          &corsList{},
	}
}

// doService does Get and Set Table Service Properties and Get Table Service
// Stats.
func (s *Server) doService(r *request) (*reply, error) {
	if r.query.Get("restype") != "service" {
		return nil, tableerr.New(tableerr.InvalidQueryParameterValue, "Value for one of the query parameters specified in the request URI is invalid.")
	}
	need := "r"
	if r.method == http.MethodPut {
		need = "w"
	}
	if err := r.grant.allow('s', need, ""); err != nil {
		return nil, err
	}
	comp := r.query.Get("comp")
	switch {
	case comp == "properties" && r.method == http.MethodGet:
		s.mu.Lock()
		defer s.mu.Unlock()
		return xmlReply(http.StatusOK, s.props)
	case comp == "properties" && r.method == http.MethodPut:
		return s.setProperties(r)
	case comp == "stats" && r.method == http.MethodGet:
		return s.stats()
	}
	return nil, methodNotAllowed()
}

func (s *Server) setProperties(r *request) (*reply, error) {
	var p serviceProperties
	if err := xml.Unmarshal(r.body, &p); err != nil || !p.valid() {
		return nil, invalidXML()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Logging != nil {
		s.props.Logging = p.Logging
	}
	if p.HourMetrics != nil {
		s.props.HourMetrics = p.HourMetrics
	}
	if p.MinuteMetrics != nil {
		s.props.MinuteMetrics = p.MinuteMetrics
	}
	if p.Cors != nil {
		s.props.Cors = p.Cors
	}
	return newReply(http.StatusAccepted), nil
}

func (p serviceProperties) valid() bool {
	if p.Cors != nil && len(p.Cors.Rules) > maxCorsRules {
		return false
	}
	return (p.Logging == nil || p.Logging.RetentionPolicy.valid()) &&
		(p.HourMetrics == nil || p.HourMetrics.RetentionPolicy.valid()) &&
		(p.MinuteMetrics == nil || p.MinuteMetrics.RetentionPolicy.valid())
}

func (r *retention) valid() bool {
	if r == nil || !r.Enabled {
		return true
	}
	return r.Days != nil && *r.Days >= 1 && *r.Days <= maxRetentionDays
}

type serviceStats struct {
	XMLName        xml.Name `xml:"StorageServiceStats"`
	GeoReplication struct {
		Status       string
		LastSyncTime string
	}
}

// stats plays a secondary that is never behind.
func (s *Server) stats() (*reply, error) {
	var v serviceStats
	v.GeoReplication.Status = "live"
	v.GeoReplication.LastSyncTime = s.now().UTC().Format(http.TimeFormat)
	return xmlReply(http.StatusOK, v)
}

func invalidXML() error {
	return tableerr.New(tableerr.InvalidXMLDocument, "XML specified is not syntactically valid.")
}
