// Package defender reads the just-in-time policies of Microsoft Defender for
// Cloud through Resource Manager, over armsecurity (API version 2020-01-01).
package defender

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/security/armsecurity"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/defender"
)

// Reader reads Defender's policies. It needs the action
// Microsoft.Security/locations/jitNetworkAccessPolicies/read, and writes nothing.
type Reader struct {
	cred azcore.TokenCredential
	opts arm.ClientOptions
}

// New makes a Reader for the credential and the cloud of the options.
func New(cred azcore.TokenCredential, opts arm.ClientOptions) (*Reader, error) {
	if cred == nil {
		return nil, errors.New("defender: a credential is required")
	}
	opts.DisableRPRegistration = true
	return &Reader{cred, opts}, nil
}

// Policies gives every policy of the subscription. Errors: unavailable,
// defender_unreadable, with what Azure answered.
func (r *Reader) Policies(ctx context.Context, subscription string) ([]defender.Policy, error) {
	client, err := armsecurity.NewJitNetworkAccessPoliciesClient(subscription, r.cred, &r.opts)
	if err != nil {
		return nil, err
	}
	all := []*armsecurity.JitNetworkAccessPolicy{}
	for pager := client.NewListPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, failure(err, subscription)
		}
		all = append(all, page.Value...)
	}
	// The export's form is the one that is read, wherever it comes from.
	data, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return defender.Decode(data)
}

func failure(err error, subscription string) error {
	said := "Azure could not be reached"
	if res, ok := errors.AsType[*azcore.ResponseError](err); ok {
		said = "Azure answered " + res.ErrorCode
	}
	return access.Wrap(err, access.Unavailable, "defender_unreadable",
		"the policies of Defender for Cloud in subscription "+subscription+" could not be read: "+said+" (it takes Microsoft.Security/locations/jitNetworkAccessPolicies/read)")
}
