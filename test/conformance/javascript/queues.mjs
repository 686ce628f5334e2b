// What the Service Bus SDK does with queues of its own, besides the main job.

import assert from "node:assert/strict";
import { admin, bus, busByToken, run } from "./clients.mjs";
import { all, refused, step, until } from "./steps.mjs";

export async function queuesOfOurOwn() {
  const plain = `js-plain-${run}`;
  const sessions = `js-sessions-${run}`;
  await step("the admin client lists the queues", async () => {
    const names = (await all(admin.listQueues())).map((q) => q.name);
    for (const name of ["access-requests", "access-rejected", "nsg-reconcile"]) assert.ok(names.includes(name), `${name} should be listed: ${names}`);
    assert.equal((await admin.getQueue("nsg-reconcile")).requiresSession, true, "nsg-reconcile should require sessions");
    return names.join(", ");
  });
  await step("the admin client makes two queues", async () => {
    await admin.createQueue(plain, { maxDeliveryCount: 3 });
    await admin.createQueue(sessions, { requiresSession: true });
    assert.equal((await admin.getQueue(plain)).maxDeliveryCount, 3);
    return `${plain}, ${sessions}`;
  });
  try {
    await messages(plain);
    await subqueues(plain);
    await scheduled(plain);
    await sessionQueue(sessions);
  } finally {
    await Promise.all([plain, sessions].map((name) => admin.deleteQueue(name)));
  }
  await step("a queue that is gone is told from one that is empty", async () => {
    assert.equal(await admin.queueExists(plain), false, "the queue should be gone");
    const error = await refused(bus.createSender(plain).sendMessages({ body: 1 }), "sending to a queue that is gone");
    assert.equal(error.code, "MessagingEntityNotFound");
    return error.code;
  });
}

// take receives so many messages, which may come in several turns.
async function take(receiver, count) {
  const taken = [];
  await until(`${count} messages are received`, 20, async () => {
    taken.push(...(await receiver.receiveMessages(count - taken.length, { maxWaitTimeInMs: 5000 })));
    return taken.length === count;
  });
  return taken;
}

async function messages(queue) {
  const sender = busByToken.createSender(queue);
  const receiver = busByToken.createReceiver(queue);
  await step("by token: a batch is sent, peeked, received and completed", async () => {
    const batch = await sender.createMessageBatch();
    for (const n of [1, 2, 3]) assert.ok(batch.tryAddMessage({ body: { n }, applicationProperties: { n } }), "the message should fit");
    await sender.sendMessages(batch);
    assert.deepEqual((await receiver.peekMessages(10)).map((m) => m.body.n), [1, 2, 3], "peeked");
    const taken = await take(receiver, 3);
    for (const m of taken) await receiver.completeMessage(m);
    assert.deepEqual(taken.map((m) => m.applicationProperties.n), [1, 2, 3], "received");
    assert.deepEqual(await receiver.peekMessages(10), [], "nothing should be left");
  });
  await step("an abandoned message comes again, and its lock is renewed", async () => {
    await sender.sendMessages({ body: "again" });
    const [first] = await receiver.receiveMessages(1);
    await receiver.abandonMessage(first);
    const [second] = await receiver.receiveMessages(1);
    assert.deepEqual([first.deliveryCount, second.deliveryCount], [0, 1], "the delivery counts");
    const locked = second.lockedUntilUtc;
    assert.ok((await receiver.renewMessageLock(second)) > locked, "the lock should last longer than before");
    await receiver.completeMessage(second);
  });
  await step("a subscription is handed what arrives", async () => {
    const handed = new Promise((resolve, reject) => {
      receiver.subscribe({ processMessage: async (m) => resolve(m.body), processError: async (e) => reject(e.error) });
    });
    await sender.sendMessages({ body: "pushed" });
    assert.equal(await handed, "pushed");
  });
  await receiver.close();
  await sender.close();
}

async function subqueues(queue) {
  const sender = bus.createSender(queue);
  const receiver = bus.createReceiver(queue);
  await step("a deferred message is fetched by its number", async () => {
    await sender.sendMessages({ body: "later" });
    const [m] = await receiver.receiveMessages(1);
    await receiver.deferMessage(m);
    const [deferred] = await receiver.receiveDeferredMessages(m.sequenceNumber);
    assert.equal(deferred.body, "later");
    await receiver.completeMessage(deferred);
  });
  await step("a dead-lettered message keeps its reason", async () => {
    await sender.sendMessages({ body: "bad" });
    const [m] = await receiver.receiveMessages(1);
    await receiver.deadLetterMessage(m, { deadLetterReason: "unreadable", deadLetterErrorDescription: "it is bad" });
    const dead = bus.createReceiver(queue, { subQueueType: "deadLetter", receiveMode: "receiveAndDelete" });
    const [found] = await dead.receiveMessages(1);
    assert.deepEqual([found.body, found.deadLetterReason, found.deadLetterErrorDescription], ["bad", "unreadable", "it is bad"]);
    await dead.close();
    return found.deadLetterReason;
  });
  await receiver.close();
  await sender.close();
}

async function scheduled(queue) {
  const sender = bus.createSender(queue);
  const receiver = bus.createReceiver(queue, { receiveMode: "receiveAndDelete" });
  await step("of two scheduled messages the cancelled one never comes", async () => {
    const [never] = await sender.scheduleMessages({ body: "never" }, new Date(Date.now() + 2000));
    const [soon] = await sender.scheduleMessages({ body: "soon" }, new Date(Date.now() + 2000));
    assert.deepEqual((await receiver.peekMessages(10)).map((m) => [m.body, m.state]), [["never", "scheduled"], ["soon", "scheduled"]], "peeked");
    await sender.cancelScheduledMessages(never);
    const [m] = await receiver.receiveMessages(1, { maxWaitTimeInMs: 20_000 });
    assert.equal(m?.body, "soon");
    assert.notEqual(`${m.sequenceNumber}`, `${soon}`, "a message that becomes active should have a new number");
    assert.deepEqual(await receiver.peekMessages(10), [], "nothing should be left");
    const error = await refused(sender.cancelScheduledMessages(never), "cancelling twice");
    assert.equal(error.code, "MessageNotFound");
  });
  await receiver.close();
  await sender.close();
}

async function sessionQueue(queue) {
  const sender = bus.createSender(queue);
  await step("a session is received in order, by its id and by its turn, and keeps its state", async () => {
    await sender.sendMessages(["a1", "b1", "a2"].map((text) => ({ body: text, sessionId: text[0] })));
    const a = await bus.acceptSession(queue, "a");
    const got = await take(a, 2);
    assert.deepEqual(got.map((m) => m.body), ["a1", "a2"]);
    for (const m of got) await a.completeMessage(m);
    await a.setSessionState("half done");
    const locked = a.sessionLockedUntilUtc;
    assert.ok((await a.renewSessionLock()) > locked, "the session's lock should last longer than before");
    const b = await bus.acceptNextSession(queue);
    assert.equal(b.sessionId, "b", "the next free session");
    const held = await refused(bus.acceptSession(queue, "a"), "a session that somebody holds");
    assert.equal(held.code, "SessionCannotBeLocked");
    await a.close();
    await b.close();
    const again = await bus.acceptSession(queue, "a");
    assert.equal(`${await again.getSessionState()}`, "half done", "the session's state");
    await again.close();
  });
  await sender.close();
}
