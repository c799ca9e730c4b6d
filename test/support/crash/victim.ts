/** The broker that is killed, as a process: the built program, or one from the sources that gives more ways to be set up. */
import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import type { Administration } from '../../../broker/administration/administration.ts';
import type { StoreOptions } from '../../../broker/storage/open-store.ts';
import type { PagingLimits } from '../../../broker/store.ts';
import { eventually } from '../eventually.ts';
import { WarrenProcess } from '../warren-process.ts';

export interface Victim {
  readonly child: ChildProcess;
  /** Resolves when it is over, and everything it has printed has been read. */
  readonly exited: Promise<unknown>;
  readonly amqpUrl: string;
  readonly stderr: string;
  /** What only a program can ask for: users, rights, policies. Undefined: this one takes no such orders. */
  readonly orders?: Orders;
  /** Ends it in the middle of whatever it does. */
  kill(): void;
  stop(): Promise<void>;
}

/** Calls verbs of the administration in the other process. Never settles when that dies first. */
export interface Orders {
  give<Verb extends keyof Administration>(
    verb: Verb,
    ...args: Parameters<Administration[Verb]>
  ): Promise<Awaited<ReturnType<Administration[Verb]>>>;
}

/** Makes one after the other on the same data folder. */
export interface VictimMaker {
  /** Begins to start one. */
  spawn(): Victim;
  /** Starts one and waits until it takes connections. Rejects when it does not. */
  start(): Promise<Victim>;
}

export interface BuiltOptions {
  readonly dataDir: string;
  readonly flags?: readonly string[];
}

/** The program as users have it. */
export function builtVictims({ dataDir, flags = [] }: BuiltOptions): VictimMaker {
  const options = { dataDir, flags: ['--shutdown-grace-seconds=1', ...flags] };
  return {
    spawn: () => killable(new WarrenProcess(options)),
    start: async () => killable(await WarrenProcess.start(options)),
  };
}

function killable(warren: WarrenProcess): Victim {
  return {
    child: warren.child,
    exited: warren.exited,
    // Not known before it has started.
    get amqpUrl() {
      return warren.amqpUrl;
    },
    get stderr() {
      return warren.stderr;
    },
    kill: () => void warren.child.kill('SIGKILL'),
    stop: () => warren.stop(),
  };
}

/** What the program from the sources is told; as JSON. */
export interface ForkedOptions {
  readonly dataDir: string;
  readonly store?: Pick<StoreOptions, 'segmentBytes' | 'cleanSegmentsMin' | 'residentBytesMax' | 'reserveBytes'>;
  /** Smaller pages than usual, so that short backlogs have several. */
  readonly paging?: PagingLimits;
  /**
   * The data folder is on a disk in memory, from which a power cut (instead of a kill) takes any part of what was not
   * synced. The folder named holds what is left of that disk from one process to the next.
   */
  readonly powerCuts?: boolean;
}

/** The core and the AMQP door from the sources. */
export function forkedVictims(options: ForkedOptions): VictimMaker {
  return {
    spawn: () => new Forked(options),
    async start() {
      const forked = new Forked(options);
      await eventually(
        () => {
          if (forked.child.exitCode === null && !forked.isReady) throw new Error(`not started: ${forked.stderr}`);
        },
        { timeoutMs: 20_000 },
      );
      if (!forked.isReady) throw new Error(`it ended: ${forked.stderr}`);
      return forked;
    },
  };
}

/** What the forked program says: where it listens, once, and answers to orders. */
export type ForkedSaying =
  | { readonly port: number }
  | { readonly id: number; readonly answer: unknown; readonly failure?: string };

export type ForkedOrder = { readonly cutPower: true } | VerbOrder;

export interface VerbOrder {
  readonly id: number;
  readonly verb: string;
  readonly args: readonly unknown[];
}

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

class Forked implements Victim, Orders {
  readonly child: ChildProcess;
  readonly exited: Promise<unknown>;
  readonly orders: Orders = this;
  readonly #waiting = new Map<number, Waiting>();
  readonly #hasPower: boolean;
  #orders = 0;
  #port: number | undefined;
  #stderr = '';

  constructor(options: ForkedOptions) {
    this.#hasPower = options.powerCuts === true;
    this.child = fork(join(import.meta.dirname, 'victim-main.ts'), [JSON.stringify(options)], {
      execArgv: ['--import', 'tsx'],
      env: { PATH: process.env.PATH ?? '' },
      // Field tables have more than JSON has.
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.exited = new Promise((resolve) => {
      this.child.once('close', resolve);
    });
    this.child.on('message', (saying: ForkedSaying) => this.#hear(saying));
    this.child.on('error', () => {});
  }

  #hear(saying: ForkedSaying): void {
    if ('port' in saying) {
      this.#port = saying.port;
      return;
    }
    const waiting = this.#waiting.get(saying.id);
    this.#waiting.delete(saying.id);
    if (saying.failure === undefined) waiting?.resolve(saying.answer);
    else waiting?.reject(new Error(saying.failure));
  }

  give<Verb extends keyof Administration>(
    verb: Verb,
    ...args: Parameters<Administration[Verb]>
  ): Promise<Awaited<ReturnType<Administration[Verb]>>> {
    this.#orders += 1;
    const order: VerbOrder = { id: this.#orders, verb, args };
    return new Promise((resolve, reject) => {
      this.#waiting.set(order.id, { resolve: (answer) => resolve(answer as never), reject });
      this.child.send(order, () => {});
    });
  }

  get isReady(): boolean {
    return this.#port !== undefined;
  }

  get amqpUrl(): string {
    return `amqp://127.0.0.1:${this.#port}`;
  }

  get stderr(): string {
    return this.#stderr;
  }

  kill(): void {
    if (this.#hasPower) this.child.send({ cutPower: true } satisfies ForkedOrder, () => {});
    else this.child.kill('SIGKILL');
  }

  async stop(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}
