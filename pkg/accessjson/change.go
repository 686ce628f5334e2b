package accessjson

import (
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// maxChange bounds the body of what changes a request or the lockdown, in bytes.
const maxChange = 8 << 10

// ExtendMessage asks for more time; exactly one of Duration and EndTime is set.
type ExtendMessage struct {
	Duration      time.Duration
	EndTime       time.Time
	Justification string
}

// DecodeExtend reads {"duration" | "endTimeUtc", "justification"?}. Its errors are
// those of DecodeRequest.
func DecodeExtend(data []byte) (ExtendMessage, error) {
	var doc struct {
		Duration      *string `json:"duration"`
		EndTime       *string `json:"endTimeUtc"`
		Justification *string `json:"justification"`
	}
	if err := decode(data, maxChange, &doc); err != nil {
		return ExtendMessage{}, err
	}
	f := &faults{}
	m := ExtendMessage{Justification: f.text("justification", doc.Justification, 1024)}
	m.Duration, m.EndTime = f.length("", doc.Duration, doc.EndTime)
	return m, f.error("request_invalid", "the extension is not valid")
}

// length reads how long something is to last: a duration, or an end.
func (f *faults) length(path string, duration, endTime *string) (d time.Duration, end time.Time) {
	at := func(name string) string {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	switch {
	case duration != nil && endTime != nil:
		f.add(path, "duration_and_end_time", "give a duration or an endTimeUtc, not both")
	case duration != nil:
		var err error
		d, err = access.ParseDuration(*duration)
		f.err(at("duration"), err)
	case endTime != nil:
		end = f.time(at("endTimeUtc"), "end_time_invalid", *endTime)
	default:
		f.add(path, "duration_missing", "give a duration, such as PT1H, or an endTimeUtc")
	}
	return d, end
}

// RevokeMessage says what of a request is to end.
type RevokeMessage struct {
	Reason string
	Grants []int // their indexes; none is all of them
}

// DecodeRevoke reads {"reason"?, "grants"?: [index…]}; an empty body asks for all.
func DecodeRevoke(data []byte) (RevokeMessage, error) {
	if len(data) == 0 {
		return RevokeMessage{}, nil
	}
	var doc struct {
		Reason *string `json:"reason"`
		Grants *[]int  `json:"grants"`
	}
	if err := decode(data, maxChange, &doc); err != nil {
		return RevokeMessage{}, err
	}
	f := &faults{}
	m := RevokeMessage{Reason: f.text("reason", doc.Reason, 1024)}
	if doc.Grants != nil {
		if m.Grants = *doc.Grants; len(m.Grants) == 0 || len(m.Grants) > access.MaxPorts {
			f.add("grants", "grants_count", "name 1 to %d grants, or leave grants out for all of them", access.MaxPorts)
		}
	}
	return m, f.error("request_invalid", "the revocation is not valid")
}

// DecodeLockdown reads {"reason"}, which is required.
func DecodeLockdown(data []byte) (reason string, err error) {
	var doc struct {
		Reason *string `json:"reason"`
	}
	if err := decode(data, maxChange, &doc); err != nil {
		return "", err
	}
	f := &faults{}
	reason = f.text("reason", doc.Reason, 512)
	if reason == "" && len(f.list) == 0 {
		f.add("reason", "reason_missing", "say why every door is to be shut: whoever is refused is told")
	}
	return reason, f.error("request_invalid", "the lockdown is not valid")
}
