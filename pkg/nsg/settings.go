package nsg

import (
	"regexp"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Band is a range of rule priorities, both ends included.
type Band struct{ Low, High int }

// Limits of a security rule and a group, from "Azure subscription and service
// limits, quotas, and constraints" and the securityRules REST reference.
const (
	MaxRuleName        = 80
	MaxDescription     = 140
	MinPriority        = 100
	MaxPriority        = 4096
	MaxRules           = 1000 // per group, both directions
	MaxPrefixesPerSide = 4000 // per group, all rules together
)

// Settings say whose rules are ours and where they may stand.
type Settings struct {
	// Installation names this installation in every rule of ours, so that two
	// installations never touch each other's: 1–20 of a–z, 0–9.
	Installation string
	// Band is where our allow rules stand.
	Band Band
	// Baseline is where our deny rules stand, behind all of Band; the zero band
	// has no room for any.
	Baseline Band
	// MaxGrant is the longest grant any policy may allow. A rule that claims to
	// live longer than that from now is not one we wrote, and counts as expired.
	MaxGrant time.Duration

	// kept are rules of ours that are left alone, by lower-case name: see Keeping.
	kept map[string]bool
}

var installationPattern = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

// Validate refuses settings that could harm: a name that does not fit a rule's,
// a band outside Azure's, no longest grant.
func (s Settings) Validate() error {
	if !installationPattern.MatchString(s.Installation) {
		return access.Errorf(access.InvalidArgument, "installation_invalid", "an installation's name is 1 to 20 of a-z and 0-9")
	}
	if s.Band.Low < MinPriority || s.Band.High > MaxPriority || s.Band.Low > s.Band.High {
		return access.Errorf(access.InvalidArgument, "band_invalid", "the band of priorities must lie within %d-%d, its lower end first", MinPriority, MaxPriority)
	}
	if b := s.Baseline; b != (Band{}) && (b.Low <= s.Band.High || b.High > MaxPriority || b.Low > b.High) {
		return access.Errorf(access.InvalidArgument, "baseline_band_invalid", "the band of the baselines must lie behind the other one, within %d-%d, its lower end first", MinPriority, MaxPriority)
	}
	if s.MaxGrant <= 0 {
		return access.Errorf(access.InvalidArgument, "max_grant_invalid", "the longest grant must be longer than nothing")
	}
	return nil
}
