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
// A fail-over that loses an accepted request altogether, or what became of its
// legs, is not held against the broker: only that nothing of it stays open.
//
// # What it finds
//
// The core was broken on purpose, one way at a time. In how many of the first
// seeds that was found, the first of them in brackets, where it was:
//
//	the end of a leg is not recorded before the write            227 of 300 (1)
//	a lockdown is not asked about by Reconcile                    66 of 100 (1)
//	Submit is finished before the legs are written               128 of 300 (1)
//	Sweep closes nothing that is due                              66 of 300 (6)
//	a repair opens what somebody removed                          12 of 60  (3)
//	Sweep starts nothing                                          12 of 60  (3)
//	Sweep finishes nothing                                         7 of 60  (4)
//	the other legs of a grant that ended stay                      9 of 60  (7)
//	Scan does not confirm targets                                 10 of 100 (3)
//	a target is not confirmed before it opens                     10 of 100 (8)
//	a write goes without the ETag that was read                   11 of 100 (20)
//	policies are not asked again before the opening                2 of 100 (37)
//	revocations are not asked about before the opening            13 of 300 (30)
//	what is done is said to be all, though legs came meanwhile    17 of 300 (46)
//	an ending closes before its mark, and not after it             1 of 300 (256)
//
// That a missing policy lifts a baseline is found by TestLosingAWholePart.
//
// The figures were taken while the simulation grew. Not found in 300 seeds: AsOf
// left out (the clocks are askew by seconds, and 60 are allowed), the group not
// read back (here a write that succeeds has landed), the other legs of a grant not
// asked about before the opening, and nobody looking for a door that was opened
// late (both too rare): these have tests of their own in pkg/broker. Nor were the
// legs read before the group, nor ended legs that may open again, nor that a
// residue is not looked for: what is asked again before every opening, and the
// reading back, stand behind them, and no test tells them from the right order.
package simulate
