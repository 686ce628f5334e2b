package connect_test

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/localazure"
)

const subscription = "00000000-0000-0000-0000-000000000001"

// stack starts the stand-ins without a function app and puts what reaches them
// into the environment, as the host does for the handler. The CA counts only if
// nothing has verified a certificate before: there is one such test.
func stack(t *testing.T) *localazure.Stack {
	t.Helper()
	var docs [2][]byte
	for i, file := range []string{"../../docs/examples/topology.json", "../../infra/entities.json"} {
		var err error
		if docs[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	s, err := localazure.Start(t.Context(), localazure.Config{Dir: t.TempDir(), Topology: docs[0], Entities: docs[1], Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for k, v := range s.Env() {
		t.Setenv(k, v)
	}
	return s
}

// TestEveryServiceIsReached connects as the handler does, by the settings alone,
// and asks one thing of each service: once by identity, once by a key.
func TestEveryServiceIsReached(t *testing.T) {
	s := stack(t)
	byIdentity, err := config.Load(os.LookupEnv, config.ServiceBus|config.Tables|config.Azure)
	if err != nil {
		t.Fatal(err)
	}
	byKey := byIdentity
	byKey.ServiceBus = config.Connection{ConnectionString: config.Secret(s.Env()["SERVICEBUS_CONNECTION_STRING"])}
	byKey.Tables = config.Connection{ConnectionString: config.Secret(s.Env()["AZURE_STORAGE_CONNECTION_STRING"])}
	for name, cfg := range map[string]config.Config{"identity": byIdentity, "key": byKey} {
		t.Run(name, func(t *testing.T) {
			bus, err := connect.ServiceBus(cfg.ServiceBus)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = bus.Close(t.Context()) }()
			sender, err := bus.NewSender("access-requests", nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := sender.SendMessage(t.Context(), &azservicebus.Message{Body: []byte("{}")}, nil); err != nil {
				t.Error(err)
			}
			store, err := connect.Tables(cfg.Tables, connect.Watch{})
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Init(t.Context()); err != nil {
				t.Error(err)
			}
			if _, _, err := store.Find(t.Context(), access.NewRequestID(access.Sender{}, "x")); access.CodeOf(err) != access.NotFound {
				t.Error(err)
			}
		})
	}
	azure, err := connect.Network(byIdentity, byIdentity.Tables, time.Now, connect.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	if groups, err := azure.Groups(t.Context(), subscription); err != nil || len(groups) == 0 {
		t.Errorf("%d groups, %v", len(groups), err)
	}
	if c, _ := s.ServiceBus.Counts("access-requests"); c.Active != 2 {
		t.Errorf("%+v", c)
	}
	// Another identity than there is gets nothing.
	cred, err := connect.Credential(config.Connection{ManagedIdentity: true, ClientID: "99999999-9999-9999-9999-999999999999"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}}); err == nil {
		t.Error("an identity that is not ours got a token")
	}
}

func TestABadConnectionStringIsAnErrorThatHidesIt(t *testing.T) {
	const secret = "c2VjcmV0LXNlY3JldA"
	for _, text := range []string{"AccountKey=" + secret, "Endpoint=nonsense;SharedAccessKey=" + secret, "SharedAccessKeyName=k;SharedAccessKey=" + secret + "=="} {
		c := config.Connection{ConnectionString: config.Secret(text)}
		if _, err := connect.ServiceBus(c); err == nil || strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("Service Bus: %v", err)
		}
		if _, err := connect.Tables(c, connect.Watch{}); err == nil || strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("tables: %v", err)
		}
	}
}
