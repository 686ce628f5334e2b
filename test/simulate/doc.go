// Package simulate plays the real use cases of pkg/broker under an adversary, in
// virtual time: three instances whose clocks are askew, over one record, one
// queue and one Resource Manager in memory. Its tests are all there is of it.
//
// # How it works
//
// A seed is a story of an hour and a quarter with the adversary, and of as long
// after that as anything is left to do. It runs in a bubble of testing/synctest.
// Every call of a port waits on the schedule, which draws from the seed when the
// call has its effect, when its reply comes, and whether it is cut off before or
// after, refused, loses its reply, or stands still for minutes. One step runs at
// a time, and what several goroutines do at once is sorted before anything is
// drawn: the same seed is the same story, to the letter
// (TestASeedReplaysExactly). "make simulate SEED=n" tells it.
//
// What else the adversary does is in the knobs: messages are lost, repeated,
// late, and overtake one another; sessions are lost, so that two reconciles of an
// NSG run at once; Resource Manager throttles, answers 409, 412 and superseded,
// and is locked; the store, the queue or Resource Manager is gone for up to an
// hour; a fail-over loses the store's last seconds; the customer edits the NSGs,
// shadows, alters and deletes our rules; machines are made anew, and addresses
// handed to others. Each knob is off in half of the seeds, and all are in a tenth.
//
// # What is held
//
// After every step packets are sent through the NSGs, by an evaluation of the
// simulation's own.
//
//   - No door stands open by our doing that no live leg on record covers, for
//     longer than 60 seconds (see below).
//   - No write opens a door of which its writer had read that it is to be shut,
//     whose address is another machine's, which no policy allows, or which somebody
//     else had shut. One who read before the end was recorded may still be late
//     where the rule had never stood, so that no write of the group stopped them:
//     such a door counts from the sixth minute on.
//   - No write shuts a door before the end of what holds it open is on record.
//   - A deny of a baseline goes only where its writer had read that it is to be
//     lifted.
//   - No rule of the customer's changes by our doing.
//   - Once the adversary has gone, a request for every machine opens within three
//     minutes. In the end every accepted request is Revoked or Failed, with a
//     reason; nothing is pending, and nothing of ours is left but the baselines.
//
// # How the 60 seconds are counted
//
// From the moment at which the end is on record (an expiry, a closing, a
// revocation of which somebody was told, a lockdown) time counts in which Resource
// Manager takes writes of that NSG: it is reachable, does not throttle, no other
// operation is under way on the group, and no ReadOnly lock is on it. It does not
// count while the adversary's doing may keep the NSG from being looked after: from
// a call that failed, a message that was lost or is late, an actor that was cut
// off or stands still, a part that is gone, until the first sweep that begins a
// minute after that is over, which is how long a use case leaves for later what
// it could not do. Each such thing starts the count anew. Whatever happens, 45
// minutes of reachable time are never exceeded.
//
// Some things only a scan can find, and count from the end of the first scan with
// which nothing went wrong: an address that is another machine's now, a rule of
// ours that the customer has widened, and what a fail-over has made the record
// forget.
//
// A fail-over that loses an accepted request altogether is not held against the
// broker: only that nothing of it stays open.
package simulate
