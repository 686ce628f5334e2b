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
// hour; a fail-over loses the store's last seconds, and an NSG all that was on record of it;
// the customer edits the NSGs,
// shadows, alters, deletes and puts back our rules; an NSG holds for a while what
// this version would lose, or is deleted and made anew, soon or not at all; machines
// are made anew, and addresses handed to others. Tickets ask for access, change,
// are given to others, closed and opened again, and their events come late, twice
// and out of order; policies demand tickets, and a tag that machines lose; the topic
// takes some of the events that it is given. Requests are retired half an hour after
// they were over. Each knob is off in half of the seeds, and all are in a tenth; in a
// seventh nothing fails, and the world goes on all the same.
//
// Doors are for TCP, UDP or both, and in seeds of IPv6 for either family. Machines
// stand behind a subnet's NSG, a NIC's or both; one has a second NIC in another subnet.
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
//   - A grant is over, and its door counts as one that no leg covers, once a ticket
//     that vouched for it, or asked for it, was ended on record, or was changed to
//     what no policy that stood since then accepts. No write opens a door of which
//     no ticket, tag and policy allowed it at any moment since its writer read.
//   - A whole group is written only under a version that was read before the legs,
//     and only where nothing of it is lost.
//   - A leg is said to have ended only once its door was seen shut.
//   - A deny of a baseline goes only where its writer had read that it is to be
//     lifted.
//   - No rule of the customer's changes by our doing.
//   - Once the adversary has gone, a request for every machine opens within three
//     minutes, and packets pass to every address of the machine. Nothing is on record
//     of an NSG that stays gone. In the end every accepted request is Revoked or
//     Failed, with a reason; nothing is pending, and nothing of ours is left but the
//     baselines.
//   - In the end every event of a ticket that is on record was worked, and there is
//     an event that tells so. Every event was published, each at least once, those of
//     a subject by their numbers and never two under one; and its chain is whole.
//   - What is retired was over for the retention, is on no NSG and not pending, and
//     was published.
//
// # How the 60 seconds are counted
//
// From the moment at which the end is on record (an expiry, a closing, a
// revocation of which somebody was told, a ticket's end or change, a lockdown) time
// counts in which Resource Manager takes writes of that NSG: it is reachable, does
// not throttle, no other operation is under way on the group, and no ReadOnly lock is
// on it. It does not count while the adversary's doing may keep the NSG from being
// looked after: from a call that failed for it or for an actor at work on it, a
// message that was lost or is late, an actor that was cut off or stands still, a part
// that is gone, until the first sweep that begins a minute after that is over, which
// is how long a use case leaves for later what it could not do. Each such thing
// starts the count anew. Whatever happens, 45 minutes of reachable time are never
// exceeded.
//
// Some things only a scan can find, and count from the end of the first scan with
// which nothing went wrong: an address that is another machine's now, a rule of
// ours that the customer has widened, and what a fail-over has made the record
// forget.
//
// A fail-over that loses an accepted request altogether, or what became of its
// legs, is not held against the broker: only that nothing of it stays open. Nor is an
// event of which it has lost the notice alone, and which waits for the next one of its
// subject.
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
//	what a lost record held is laid open again, unjudged           1 of 300 (291)
//	legs are read before the group                                20 of 20  (1)
//	a residue is not looked for                                   27 of 200 (2)
//	the end of a ticket ends nothing                               8 of 200 (6)
//	what a changed ticket vouches for no more does not end         1 of 300 (98)
//	Sweep works no events of tickets                              26 of 60  (1)
//	what a ticket says is not asked again before the opening       1 of 300 (275)
//	conditions are not asked again before the opening              6 of 300 (36)
//	what is put back is not confirmed                              2 of 300 (8)
//	Sweep publishes nothing                                       60 of 60  (1)
//	what is sent is counted before it is sent                     43 of 60  (1)
//	seals take each other's numbers                               11 of 150 (1)
//	the notice of events goes as soon as all was sent              6 of 300 (38)
//	what was seen is not looked at again                           2 of 150 (10)
//	only the first NIC gets legs                                  80 of 80  (1)
//	what is for one protocol opens for both                       40 of 40  (1)
//	a group is written whole though something is lost             13 of 60  (3)
//	what a lock keeps from going is, too                           4 of 300 (65)
//	a plan for such a group is as for any                          4 of 300 (174)
//	that a group is gone is an error                              11 of 100 (3)
//	what was not published is retired                              5 of 300 (61)
//	what was over for no time is retired                          42 of 100 (2)
//
// That a missing policy lifts a baseline is found by TestLosingAWholePart.
//
// The figures were taken while the simulation grew. Not found in 300 seeds: AsOf
// left out (the clocks are askew by seconds, and 60 are allowed), the group not
// read back (here a write that succeeds has landed), the other legs of a grant not
// asked about before the opening, and nobody looking for a door that was opened
// late (both too rare): these have tests of their own in pkg/broker, and so have that
// ended legs may open again, that an event of a ticket is not noted as taken, that a
// ticket is not read again after the request that it made, and that a scan passes
// over doors that are to open. That what a ticket asked for before its end opens once
// it is opened again was found once in some thousand seeds, and so were that an event
// may never be sent whose seal a fail-over has lost, and that the end of a ticket does
// not find what it vouched for at the start of a request alone.
//
// That the legs are read before the group is found by the order alone; what it does
// is in pkg/broker (TestLegsThatWereReadBeforeTheGroupPutNothingBack).
package simulate
