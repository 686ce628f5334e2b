// The clients of Microsoft's SDKs, from the environment file's variables alone.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { NetworkManagementClient } from "@azure/arm-network";
import { ManagedIdentityCredential } from "@azure/identity";
import { ServiceBusAdministrationClient, ServiceBusClient } from "@azure/service-bus";

export const env = new Proxy(process.env, {
  get(all, name) {
    assert.ok(all[name], `the variable ${String(name)} should be set, as in the environment file`);
    return all[name];
  },
});

// run is in the names of all that this run makes.
export const run = randomUUID().slice(0, 8);

// IDENTITY_ENDPOINT and IDENTITY_HEADER make this App Service's managed identity.
export const identity = new ManagedIdentityCredential({ clientId: env.AZURE_CLIENT_ID });
export const network = new NetworkManagementClient(identity, env.AZURE_SUBSCRIPTION_ID, {
  endpoint: env.ARM_ENDPOINT,
  $host: env.ARM_ENDPOINT,
  credentialScopes: `${env.ARM_AUDIENCE}/.default`,
});
export const bus = new ServiceBusClient(env.SERVICEBUS_CONNECTION_STRING);
export const busByToken = new ServiceBusClient(env.SERVICEBUS_FULLY_QUALIFIED_NAMESPACE, identity);
export const admin = new ServiceBusAdministrationClient(env.SERVICEBUS_CONNECTION_STRING);
