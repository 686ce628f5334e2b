"""Posts the access request of a file to the queue access-requests:

    SERVICEBUS_CONNECTION_STRING=... python3 post.py ID request.json

It needs the package azure-servicebus. With a managed identity or `az login`,
take ServiceBusClient(namespace, DefaultAzureCredential()) of azure-identity.
"""

import os
import sys

from azure.servicebus import ServiceBusClient, ServiceBusMessage

ident, file = sys.argv[1:3]
with open(file, encoding="utf-8") as f:
    body = f.read()
# A CA of one's own, as the local stack has; without it the package's own list counts.
trust = {"connection_verify": os.environ["SSL_CERT_FILE"]} if "SSL_CERT_FILE" in os.environ else {}
with ServiceBusClient.from_connection_string(os.environ["SERVICEBUS_CONNECTION_STRING"], **trust) as client:
    with client.get_queue_sender("access-requests") as sender:
        # The id is yours to choose: the same again is the same request.
        sender.send_messages(ServiceBusMessage(body, message_id=ident))
