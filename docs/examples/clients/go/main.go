// Command go posts the access request of a file to the queue access-requests,
// as whoever is signed in where it runs:
//
//	SERVICEBUS_FULLY_QUALIFIED_NAMESPACE=NAMESPACE.servicebus.windows.net go run . ID request.json
package main

import (
	"context"
	"log"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

func main() {
	ctx := context.Background()
	// The id is yours to choose: the same again is the same request.
	id, file := os.Args[1], os.Args[2]
	body, err := os.ReadFile(file)
	must(err)
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	must(err)
	client, err := azservicebus.NewClient(os.Getenv("SERVICEBUS_FULLY_QUALIFIED_NAMESPACE"), credential, nil)
	must(err)
	sender, err := client.NewSender("access-requests", nil)
	must(err)
	must(sender.SendMessage(ctx, &azservicebus.Message{MessageID: &id, Body: body}, nil))
	must(client.Close(ctx))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
