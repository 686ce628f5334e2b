// Posts the access request of a file to the queue access-requests, as whoever is
// signed in where it runs:
//
//   SERVICEBUS_FULLY_QUALIFIED_NAMESPACE=NAMESPACE.servicebus.windows.net node post.mjs ID request.json

import { readFile } from "node:fs/promises";
import { DefaultAzureCredential } from "@azure/identity";
import { ServiceBusClient } from "@azure/service-bus";

const [id, file] = process.argv.slice(2);
const body = JSON.parse(await readFile(file, "utf8"));
const client = new ServiceBusClient(process.env.SERVICEBUS_FULLY_QUALIFIED_NAMESPACE, new DefaultAzureCredential());
// The id is yours to choose: the same again is the same request.
await client.createSender("access-requests").sendMessages({ messageId: id, body });
await client.close();
