package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/config"
)

const examplePolicy = "docs/examples/policy.json"

// newStory connects to the stack as a client of the product would, applies the
// sample policy and finds the machine's path.
func newStory(ctx context.Context, s *stack) (*story, error) {
	d := &story{stack: s, start: time.Now()}
	d.title("The stack is up, on stand-ins for Azure")
	for _, name := range []string{"SERVICEBUS_FULLY_QUALIFIED_NAMESPACE", "AZURE_TABLES_ENDPOINT", "ARM_ENDPOINT", "FUNCTIONS_ENDPOINT"} {
		d.say("%-37s %s", name, s.env[name])
	}
	told, err := s.tool(ctx, "portcullis", "policy", "apply", "--tables", "-f", examplePolicy)
	if err != nil {
		return nil, err
	}
	d.say("%s", told)
	if d.token, err = s.tool(ctx, "portcullis-local", "token", "--env-file", s.dir+"/env", "--as", "sam@contoso.com", "--role", "Access.ReadAll"); err != nil {
		return nil, err
	}
	if d.bus, err = azservicebus.NewClientFromConnectionString(s.env["SERVICEBUS_CONNECTION_STRING"], nil); err != nil {
		return nil, err
	}
	cfg, err := config.Load(os.LookupEnv, config.Azure)
	if err != nil {
		return nil, err
	}
	d.rules = cfg.Rules
	identity := config.Connection{ManagedIdentity: true, ClientID: s.env["AZURE_CLIENT_ID"]}
	azure, err := connect.Network(cfg, identity, time.Now, connect.Watch{})
	if err != nil {
		return nil, err
	}
	d.read = azure.Group
	if d.cred, err = azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(identity.ClientID)}); err != nil {
		return nil, err
	}
	d.vm = "/subscriptions/" + s.env["AZURE_SUBSCRIPTION_ID"] + "/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1"
	id, err := access.ParseVM(d.vm)
	if err != nil {
		return nil, err
	}
	m, err := azure.Machine(ctx, id, time.Now())
	if err != nil {
		return nil, err
	}
	if len(m.NICs) != 1 || len(m.NICs[0].Addresses) != 1 {
		return nil, errors.New("web-1 should have one address")
	}
	d.target = m.NICs[0].Addresses[0].IP
	d.groups = []access.ResourceID{m.NICs[0].Addresses[0].SubnetNSG, m.NICs[0].NSG}
	return d, nil
}

func (d *story) armToken(ctx context.Context) (string, error) {
	t, err := d.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}})
	if err != nil {
		return "", fmt.Errorf("a token for Resource Manager: %w", err)
	}
	return t.Token, nil
}
