/**
 * The crash test: a broker of its own process under load, killed at random instants, started again on the same folder, and
 * everything it owes looked for. docs/crash-tests.md says what is promised and allowed.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { ADMINISTERED_KINDS, administer } from './administrator.ts';
import { consumeOn, consumeUnackedOn, transactOn } from './consumers.ts';
import { declareOn } from './declarer.ts';
import { Inspection } from './inspection.ts';
import { Ledger } from './ledger.ts';
import { Numbers, publishOn } from './publishers.ts';
import { Random } from './random.ts';
import { Session } from './session.ts';
import { declareTopology, UNACKED, UNORDERED, UNTOUCHED } from './topology.ts';
import type { Victim, VictimMaker } from './victim.ts';

export interface CrashRunOptions {
  /** Who is killed. */
  readonly victims: VictimMaker;
  readonly rounds: number;
  readonly seed: number;
  /** Queues in which no order is looked for, beside those that have none anyway. */
  readonly unordered?: readonly string[];
  /** Longest time under load before a kill, milliseconds. */
  readonly loadMsMax?: number;
  /** Share of the starts that are killed before they are over; each may be followed by another. */
  readonly startKills?: number;
  /** A start that is killed is killed within this time, milliseconds (default 500): about as long as a start takes. */
  readonly startMsMax?: number;
  /** Share of the rounds that end by SIGTERM, half of them with a kill on top of it. */
  readonly stops?: number;
  /** Told after each round. */
  readonly onRound?: (round: number, run: CrashRun) => void;
}

const LOAD_MS_MAX = 400;
const START_MS_MAX = 500;
/** A stop that is killed is killed within this time, milliseconds. */
const STOP_MS_MAX = 50;
const PUBLISHERS = ['p1', 'p2', 'p3'];

export class CrashRun {
  readonly ledger: Ledger;
  /** What was done, for the report. */
  readonly done = { kills: 0, startKills: 0, inspectionKills: 0, stops: 0, startMs: 0, starts: 0, startMsMax: 0 };
  readonly #options: CrashRunOptions;
  readonly #random: Random;
  readonly #numbers = new Numbers();
  #victim: Victim | undefined;
  #isEnding = false;
  #round = 0;

  constructor(options: CrashRunOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.ledger = new Ledger({
      unordered: [...UNORDERED, ...ADMINISTERED_KINDS, ...(options.unordered ?? [])],
      untouched: UNTOUCHED,
      unacked: UNACKED,
    });
  }

  /** Runs all rounds, or until a promise is broken. Rejects when the broker does not start. */
  async run(): Promise<void> {
    try {
      await this.#prepare();
      while (this.#round < this.#options.rounds && this.ledger.violations.length === 0) {
        this.#round += 1;
        await this.#once();
        this.#options.onRound?.(this.#round, this);
      }
      if (this.ledger.violations.length > 0) return;
      await this.#inspect(await this.#start());
    } finally {
      await this.#victim?.stop();
    }
  }

  async #prepare(): Promise<void> {
    const victim = await this.#start();
    const session = await Session.open(victim.amqpUrl, 'preparation', this.ledger);
    await declareTopology(session.channel);
    await this.#end(() => victim.kill(), [session.closed]);
  }

  /** From a start to the next kill. */
  async #once(): Promise<void> {
    const random = this.#random;
    await this.#killStarts();
    const victim = await this.#start();
    const kill = (): void => void victim.kill();
    if (random.chance(0.1)) {
      this.done.inspectionKills += 1;
      const looking = this.#inspect(victim);
      await pause(random.below(200));
      await this.#end(kill, [looking]);
      return;
    }
    await this.#inspect(victim);
    if (this.ledger.violations.length > 0) return;
    const workers = this.#load(victim);
    await this.#instant();
    if (random.chance(this.#options.stops ?? 0.08)) {
      this.done.stops += 1;
      const isKilled = random.chance(0.5);
      await this.#end(
        () => victim.child.kill('SIGTERM'),
        [...workers, pause(isKilled ? random.below(STOP_MS_MAX) : 0).then(() => isKilled && kill())],
      );
    } else {
      this.done.kills += 1;
      await this.#end(kill, workers);
    }
  }

  /** Random in time, or right at an event: a confirm, a delivery or whatever else moves the ledger. */
  async #instant(): Promise<void> {
    const maxMs = this.#options.loadMsMax ?? LOAD_MS_MAX;
    if (this.#random.chance(0.7)) return pause(this.#random.between(1, maxMs));
    const { counts } = this.ledger;
    const kind = this.#random.pick(['answered', 'arrived', 'settled'] as const);
    const until = counts[kind] + this.#random.between(1, 1500);
    const deadline = performance.now() + maxMs;
    // After each turn of the event loop, so within what one read of a socket has brought.
    while (counts[kind] < until && performance.now() < deadline) await new Promise(setImmediate);
  }

  async #killStarts(): Promise<void> {
    while (this.#random.chance(this.#options.startKills ?? 0.2)) {
      const victim = this.#spawn();
      await pause(this.#random.below(this.#options.startMsMax ?? START_MS_MAX));
      this.done.startKills += 1;
      await this.#end(() => victim.kill(), []);
    }
  }

  #spawn(): Victim {
    this.#isEnding = false;
    this.#victim = this.#options.victims.spawn();
    return this.#victim;
  }

  async #start(): Promise<Victim> {
    const before = performance.now();
    this.#isEnding = false;
    this.#victim = await this.#options.victims.start();
    const milliseconds = performance.now() - before;
    this.done.starts += 1;
    this.done.startMs += milliseconds;
    this.done.startMsMax = Math.max(this.done.startMsMax, milliseconds);
    return this.#victim;
  }

  /** Ends the broker, waits until everything it had said has been heard, and tells the ledger. */
  async #end(end: () => void, witnesses: readonly Promise<unknown>[]): Promise<void> {
    const victim = this.#victim;
    if (victim === undefined || victim.child.exitCode !== null)
      this.ledger.violation(`the broker ended by itself: ${victim?.stderr.slice(-2000)}`);
    this.#isEnding = true;
    end();
    await victim?.exited;
    await Promise.all(witnesses);
    this.ledger.crashed();
  }

  async #inspect(victim: Victim): Promise<void> {
    await this.#play(
      'inspection',
      Inspection.run(victim, this.ledger, this.#random.fork(), `inspection ${this.#round}`),
    );
  }

  /** Starts everybody; each promise resolves when its worker has heard all that the broker said. */
  #load({ amqpUrl: url, orders, exited }: Victim): Promise<void>[] {
    const work = (name: string, does: (session: Session, random: Random) => Promise<void>): Promise<void> =>
      this.#play(name, this.#session(url, `${name} of round ${this.#round}`, does));
    const numbers = this.#numbers;
    const name = `administrator of round ${this.#round}`;
    const orderly = { ledger: this.ledger, random: this.#random.fork(), numbers, name, dead: exited };
    return [
      ...(orders === undefined ? [] : [this.#play('administrator', administer({ ...orderly, orders }))]),
      ...PUBLISHERS.map((name) => work(name, (session, random) => publishOn(session, random, name, numbers))),
      work('acker', (session, random) => consumeOn(session, random, ['direct', 'fan-a'])),
      work('judge', (session, random) => consumeOn(session, random, ['work', 'counted', 'priority'])),
      work('second judge', (session, random) => consumeOn(session, random, ['work', 'direct'])),
      work('collector', (session, random) => consumeOn(session, random, ['dead', 'expired', 'later', 'fan-b'])),
      work('listener', (session, random) => consumeUnackedOn(session, random, 'heard')),
      work('transactor', (session, random) => transactOn(session, random, 't1', numbers)),
      work('declarer', (session, random) => declareOn(session, random, numbers)),
    ];
  }

  async #session(url: string, name: string, does: (session: Session, random: Random) => Promise<void>): Promise<void> {
    const random = this.#random.fork();
    const session = await Session.open(url, name, this.ledger);
    try {
      await does(session, random);
    } finally {
      await session.closed;
    }
  }

  /** What fails because the broker is being killed has not failed. */
  async #play(name: string, playing: Promise<void>): Promise<void> {
    try {
      await playing;
    } catch (error) {
      if (!this.#isEnding) this.ledger.violation(`${name} failed: ${error instanceof Error ? error.stack : error}`);
    }
  }
}
