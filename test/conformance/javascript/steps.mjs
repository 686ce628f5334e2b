// How a step is told, and what is awaited.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

// step runs one step and prints its line, with what it found.
export async function step(title, does) {
  try {
    const found = await does();
    console.log(`ok    ${title}${found ? `: ${found}` : ""}`);
    return found;
  } catch (error) {
    error.step = title;
    throw error;
  }
}

// until polls until the probe gives something, and says what was awaited if it
// does not within the time.
export async function until(awaited, seconds, probe) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(100)) {
    const found = await probe();
    if (found) return found;
  }
  throw new Error(`expected within ${seconds} s: ${awaited}`);
}

export async function all(pages) {
  const found = [];
  for await (const one of pages) found.push(one);
  return found;
}

// refused gives the error with which the call is refused.
export async function refused(call, expected) {
  const [outcome] = await Promise.allSettled([call]);
  assert.equal(outcome.status, "rejected", `expected to be refused: ${expected}`);
  return outcome.reason;
}
