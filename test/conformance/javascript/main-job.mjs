// The main job of Portcullis as a foreign system does it: with Microsoft's
// JavaScript SDKs, and nothing but the variables of the local stack's
// environment file. `go run ./test/conformance/javascript` installs the packages
// in .local/conformance/javascript, starts a stack of its own and runs this
// module there. Against a stack that runs already (make run):
//
//     set -a; . .local/env; set +a
//     node .local/conformance/javascript/main-job.mjs
//
// The variables must be set before node starts: it reads NODE_EXTRA_CA_CERTS,
// which makes it trust the stack's certificates, at its start and never again.
//
// Each step prints one line. The first that differs from what it should be ends
// the run, with a non-zero exit that says what was expected.

import assert from "node:assert/strict";
import { odata, TableClient } from "@azure/data-tables";
import { bus, busByToken, env, identity, network, run } from "./clients.mjs";
import { queuesOfOurOwn } from "./queues.mjs";
import { all, refused, step, until } from "./steps.mjs";
import { tablesOfOurOwn } from "./tables.mjs";

// Addresses: two inside the range of the sample policy, and one outside it.
const us = "203.0.113.7";
const alsoUs = "203.0.113.8";
const outside = "198.51.100.9";

const group = "prod";
const machine = (name) =>
  `/subscriptions/${env.AZURE_SUBSCRIPTION_ID}/resourceGroups/${group}/providers/Microsoft.Compute/virtualMachines/${name}`;

// What is asked for: the shortest access that the installation grants.
const lease = process.env.PORTCULLIS_SHORTEST_DURATION ?? "PT1M";
// How long an awaited change may take, in seconds; it is looked for often.
const patience = 30;

// --- the machine's path, and its rules ---

const lastPart = (id) => id.slice(id.lastIndexOf("/") + 1);

// pathTo finds a machine's address and the security groups that traffic to it meets.
async function pathTo(vm) {
  const nics = await all(network.networkInterfaces.list(group));
  const nic = nics.find((n) => n.virtualMachine?.id?.toLowerCase() === vm.toLowerCase());
  assert.ok(nic, `a network interface of ${vm} should be listed`);
  const [config] = nic.ipConfigurations;
  const [, vnet, subnet] = config.subnet.id.match(/virtualNetworks\/([^/]+)\/subnets\/([^/]+)$/);
  const { networkSecurityGroup } = await network.subnets.get(group, vnet, subnet);
  const groups = [networkSecurityGroup, nic.networkSecurityGroup].filter(Boolean).map((g) => lastPart(g.id));
  return { address: config.privateIPAddress, groups };
}

// doors gives the rules of a security group that let TCP through from exactly
// this source to exactly this destination and port.
async function doors(nsg, source, destination, port) {
  const exactly = (one, several, wanted) => {
    const given = several?.length ? several : [one];
    return given.length === 1 && given[0] === wanted;
  };
  return (await all(network.securityRules.list(group, nsg))).filter(
    (r) =>
      r.access === "Allow" && r.direction === "Inbound" && r.protocol === "Tcp" &&
      exactly(r.sourceAddressPrefix, r.sourceAddressPrefixes, source) &&
      exactly(r.destinationAddressPrefix, r.destinationAddressPrefixes, destination) &&
      exactly(r.destinationPortRange, r.destinationPortRanges, `${port}`),
  );
}

// deadlineOf reads the deadline that a rule's description states, to the second.
function deadlineOf(rule) {
  const [, text] = rule.description?.match(/ until (\S+Z)$/) ?? [];
  assert.ok(text, `the description should end with its deadline: ${rule.description}`);
  return new Date(text);
}

// --- asking ---

const body = (vm, source) => ({
  justification: "look at the logs",
  virtualMachines: [{ id: vm, ports: [{ number: 22, allowedSourceAddressPrefix: source, duration: lease }] }],
});

async function post(id, vm, source) {
  const sender = bus.createSender("access-requests");
  const message = { id, requestor: "alice@contoso.com", ...body(vm, source) };
  await sender.sendMessages({ body: message, messageId: id, contentType: "application/json" });
  await sender.close();
}

// mint gives a user's token of the local issuer; in Azure the user signs in.
async function mint(name, ...roles) {
  const res = await fetch(env.PORTCULLIS_LOCAL_MINT_ENDPOINT, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-IDENTITY-HEADER": env.IDENTITY_HEADER },
    body: JSON.stringify({ name, roles, audience: env.PORTCULLIS_AUDIENCES.split(",")[0] }),
  });
  assert.equal(res.status, 200, "a user's token should be minted");
  return (await res.json()).access_token;
}

// api calls the access API; without a bearer it is nobody who calls.
async function api(bearer, method, where, json) {
  const headers = { "Content-Type": "application/json" };
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  const res = await fetch(env.FUNCTIONS_ENDPOINT + where, { method, headers, body: json && JSON.stringify(json) });
  return { status: res.status, body: await res.json().catch(() => ({})) };
}

// becomes waits until the access API shows the request's one port so.
async function becomes(bearer, where, wanted) {
  let last;
  try {
    return await until(`${where} is ${wanted}`, patience, async () => {
      last = await api(bearer, "GET", where);
      const port = last.body.virtualMachines?.[0].ports[0];
      assert.ok(port?.status !== "Failed" && !last.body.refusal, `${where} should become ${wanted}`);
      return port?.status === wanted && { id: last.body.id, ...port };
    });
  } catch (error) {
    error.message += `; last it was ${last?.status} ${JSON.stringify(last?.body)}`;
    throw error;
  }
}

// --- the story ---

const vm = machine("web-1");
const onQueue = `js-${run}`;
const asOfQueue = `/api/access-requests/${onQueue}?channel=queue`;

// refusal asks for what the policy does not allow.
async function refusal() {
  const id = `js-refused-${run}`;
  await step(`posted to access-requests: web-1:22 from ${outside}, which the policy does not allow`, () => post(id, vm, outside));
  const receiver = busByToken.createReceiver("access-rejected");
  await step("the refusal is seen on access-rejected, with its reasons", async () => {
    const seen = await until("a message about the refused request on access-rejected", patience, async () =>
      (await receiver.peekMessages(100)).find((m) => m.body.messageId === id),
    );
    assert.equal(seen.body.reason, "source_outside_policy", "the reason");
    assert.equal(seen.correlationId, seen.body.requestId, "the correlation id should be the request's id");
    const [violation] = seen.body.violations;
    assert.equal(violation.path, "virtualMachines[0].ports[0]", "the place in the request");
    return violation.message;
  });
  await step("it is received and completed, and is gone", async () => {
    await until("the message is received", patience, async () => {
      const got = await receiver.receiveMessages(100, { maxWaitTimeInMs: 5000 });
      const ours = got.find((m) => m.body.messageId === id);
      for (const m of got) await (m === ours ? receiver.completeMessage(m) : receiver.abandonMessage(m));
      return ours;
    });
    assert.ok(!(await receiver.peekMessages(100)).some((m) => m.body.messageId === id), "the message should be gone");
    await receiver.close();
  });
}

// customersRule writes a rule of a customer's own, which nobody else may touch.
async function customersRule() {
  const nsg = "nsg-web-1-nic";
  const name = `js-${run}`;
  const rule = {
    description: "A customer's own", priority: 1500, access: "Deny", direction: "Inbound", protocol: "Tcp",
    sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRanges: ["21", "8000-8080"],
  };
  let written;
  await step("a customer's own rule is written by a long-running operation", async () => {
    const made = await network.securityRules.beginCreateOrUpdateAndWait(group, nsg, name, rule, { updateIntervalInMs: 100 });
    const { etag, provisioningState, ...now } = made;
    assert.equal(provisioningState, "Succeeded");
    for (const [field, value] of Object.entries(rule)) assert.deepEqual(now[field], value, field);
    written = now;
  });
  return {
    untouched: () =>
      step("the customer's rule is as it was written", async () => {
        const { etag, provisioningState, ...now } = await network.securityRules.get(group, nsg, name);
        assert.deepEqual(now, written, "the customer's rule");
      }),
    remove: () =>
      step("the customer's rule is removed by a long-running operation", async () => {
        await network.securityRules.beginDeleteAndWait(group, nsg, name, { updateIntervalInMs: 100 });
        const gone = await refused(network.securityRules.get(group, nsg, name), "a rule that was removed");
        assert.deepEqual([gone.statusCode, gone.code], [404, "NotFound"]);
      }),
  };
}

// opened asks on the queue, and watches the security groups until the door is
// open. It gives the request's id and its end.
async function opened(path, auditor) {
  await step(`posted to access-requests: web-1:22 from ${us} for ${lease}`, () => post(onQueue, vm, us));
  let rules;
  await step(`every group lets exactly ${us} through to exactly ${path.address}:22`, async () => {
    rules = await Promise.all(
      path.groups.map((nsg) =>
        until(`an allow rule in ${nsg}`, patience, async () => (await doors(nsg, us, path.address, 22))[0]),
      ),
    );
    return rules.map((r, i) => `${path.groups[i]}/${r.name}`).join(", ");
  });
  let port;
  await step("the access API shows it as initiated, until a time", async () => {
    port = await becomes(auditor, asOfQueue, "Initiated");
    return port.endTimeUtc;
  });
  const end = new Date(port.endTimeUtc);
  await step("the rules' descriptions state the same deadline", async () => {
    for (const rule of rules) assert.equal(deadlineOf(rule).getTime(), Math.floor(end / 1000) * 1000, rule.description);
    return rules[0].description;
  });
  await step(`${alsoUs}, whose request is another, is let through nowhere`, async () => {
    for (const nsg of path.groups) assert.deepEqual(await doors(nsg, alsoUs, path.address, 22), [], nsg);
  });
  return { id: port.id, end };
}

// recorded reads what the request left in Table Storage, by either credential.
async function recorded(id) {
  const clients = {
    "by token": (table) => new TableClient(env.AZURE_TABLES_ENDPOINT, table, identity),
    "by connection string": (table) => TableClient.fromConnectionString(env.AZURE_STORAGE_CONNECTION_STRING, table),
  };
  for (const [how, client] of Object.entries(clients)) {
    await step(`${how}: the request's rows are in Table Storage`, async () => {
      const rows = await all(client("requests").listEntities({ queryOptions: { filter: odata`PartitionKey eq ${id}` } }));
      const request = rows.find((r) => r.rowKey === "request");
      assert.deepEqual([request?.Outcome, request?.Requestor], ["Accepted", "alice@contoso.com"], "the request's row");
      assert.ok(request.DecidedAt instanceof Date, "DecidedAt should be a time");
      assert.equal((await client("requests").getEntity(id, "request")).etag, request.etag, "one row, read in two ways");
      const kinds = rows.filter((r) => r.rowKey.startsWith("event-")).map((r) => r.Kind);
      assert.ok(kinds.includes("Requested"), `the events should include Requested: ${kinds}`);
      const legs = await all(client("nsgs").listEntities({ queryOptions: { filter: odata`VM eq ${vm.toLowerCase()} and State eq 'Open'` } }));
      assert.equal(legs.length, 2, `a leg in each group should be open: ${legs.map((l) => l.State)}`);
      return `${rows.length} rows, ${legs.length} open legs`;
    });
  }
}

// overHTTP asks as a user does, and gives what waits for the end of that.
async function overHTTP() {
  const [alice, bob] = await Promise.all([mint("alice@contoso.com", "Access.Request"), mint("bob@contoso.com", "Access.Request")]);
  const wanted = body(machine("web-2"), alsoUs);
  await step("over HTTP, nobody and who speaks for another are refused", async () => {
    assert.equal((await api(null, "POST", "/api/access-requests", wanted)).status, 401, "without a token");
    const answer = await api(alice, "POST", "/api/access-requests", { ...wanted, requestor: "bob@contoso.com" });
    assert.deepEqual([answer.status, answer.body.reason], [403, "role_required"], "for somebody else, without the role that takes");
  });
  const where = await step(`over HTTP, with a token of her own, alice asks for web-2:22 from ${alsoUs}`, async () => {
    const answer = await api(alice, "POST", "/api/access-requests", wanted);
    assert.equal(answer.status, 202, JSON.stringify(answer.body));
    assert.equal(answer.body.requestor, "alice@contoso.com");
    return `/api/access-requests/${answer.body.id}`;
  });
  await step("hers is initiated, and nothing that bob may see", async () => {
    await becomes(alice, where, "Initiated");
    assert.equal((await api(bob, "GET", where)).status, 404, "what bob sees of it");
  });
  return () => step("hers is over too", async () => (await becomes(alice, where, "Revoked")).statusReason);
}

// closed waits until the time is up, and for what is told of it.
async function closed(path, { id, end }, auditor) {
  await step("the time is up: no group lets it through any more, and none ceased to before", async () => {
    const seconds = patience + Math.max(0, end - Date.now()) / 1000;
    await Promise.all(
      path.groups.map(async (nsg) => {
        await until(`no allow rule in ${nsg}`, seconds, async () => !(await doors(nsg, us, path.address, 22)).length);
        assert.ok(Date.now() >= Math.floor(end / 1000) * 1000, `the door in ${nsg} should not shut before ${end.toISOString()}`);
      }),
    );
  });
  await step("the access API says why", async () => {
    const { status, statusReason } = await becomes(auditor, asOfQueue, "Revoked");
    assert.equal(statusReason, "Expired", "the reason");
    return `${status}, ${statusReason}`;
  });
  await step("the record keeps the whole story", async () => {
    const client = new TableClient(env.AZURE_TABLES_ENDPOINT, "requests", identity);
    const wanted = ["Closed", "Closing", "Opened", "Requested"];
    return until(`events of the kinds ${wanted}`, patience, async () => {
      const rows = await all(client.listEntities({ queryOptions: { filter: odata`PartitionKey eq ${id}`, select: ["Kind", "At"] } }));
      const kinds = new Set(rows.map((r) => r.Kind));
      return wanted.every((k) => kinds.has(k)) && wanted.join(", ");
    });
  });
}

async function main() {
  await queuesOfOurOwn();
  await tablesOfOurOwn();
  const auditor = await mint("sam@contoso.com", "Access.ReadAll");
  const path = await pathTo(vm);
  await step("before: no group lets anybody in", async () => {
    for (const nsg of path.groups) assert.deepEqual(await doors(nsg, us, path.address, 22), [], nsg);
    return `${path.address} is behind ${path.groups.join(" and ")}`;
  });
  await refusal();
  const customers = await customersRule();
  try {
    const grant = await opened(path, auditor);
    await recorded(grant.id);
    const closedToo = await overHTTP();
    await closed(path, grant, auditor);
    await closedToo();
    await customers.untouched();
  } finally {
    await customers.remove();
  }
}

try {
  await main();
  console.log("the main job is done");
} catch (error) {
  console.error(`FAIL  ${error.step ?? "between two steps"}: ${error.name}${error.code ? ` (${error.code})` : ""}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await Promise.all([bus.close(), busByToken.close()]);
}
