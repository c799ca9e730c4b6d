/** Warren as its users run it: the built program in a process of its own, on free ports. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { eventually } from './eventually.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** The built program. */
export const MAIN = join(ROOT, 'dist/gateways/main.js');

export interface WarrenProcessOptions {
  /** Further flags; ports are free ones unless they say otherwise. */
  readonly flags?: readonly string[];
  /** The environment beside PATH. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Default: none; null: the program's own default. */
  readonly dataDir?: string | null;
  /** Default: the root of the project. */
  readonly cwd?: string;
  /** What the shell does first that becomes the program, e.g. `ulimit -f 1000`. */
  readonly after?: string;
  /** With a shell in between, as `npm start` has it; signals and exit code are then the shell's. */
  readonly throughShell?: boolean;
}

export interface Exit {
  /** Absent when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A door as the start reported it. */
export interface Door {
  readonly host: string;
  readonly port: number;
  /** The command that the start suggests. */
  readonly tryCommand: string;
}

export class WarrenProcess {
  readonly child: ChildProcess;
  readonly exited: Promise<Exit>;
  #stdout = '';
  #stderr = '';

  /** Starts it, without waiting for anything; `stop` it, or see that it ends. */
  constructor(options: WarrenProcessOptions = {}) {
    const { flags = [], environment = {}, cwd = ROOT, dataDir = 'none', after, throughShell = false } = options;
    const data = dataDir === null ? [] : [`--data-dir=${dataDir}`];
    const command = [
      process.execPath,
      MAIN,
      '--amqp-port=0',
      '--stomp-port=0',
      '--xmpp-port=0',
      '--http-port=0',
      ...data,
      ...flags,
    ];
    const script = after === undefined ? '"$0" "$@"; exit $?' : `${after}; exec "$0" "$@"`;
    const isShell = throughShell || after !== undefined;
    const [program = '', ...args] = isShell ? ['sh', '-c', script, ...command] : command;
    this.child = spawn(program, args, {
      cwd,
      env: { PATH: process.env.PATH ?? '', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.exited = new Promise((resolve) => {
      this.child.once('close', (code, signal) => resolve({ code, signal }));
    });
  }

  /** Starts it and waits until all its doors are open. */
  static async start(options: WarrenProcessOptions = {}): Promise<WarrenProcess> {
    const warren = new WarrenProcess(options);
    await eventually(
      () => {
        if (warren.child.exitCode !== null) return;
        if (!warren.stdout.endsWith('Server startup complete\n')) throw new Error(`not started: ${warren.stderr}`);
      },
      { timeoutMs: 10_000 },
    );
    if (warren.child.exitCode !== null) throw new Error(`it ended: ${warren.stderr}`);
    return warren;
  }

  /** Everything printed so far. */
  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** The log so far. */
  get log(): readonly Readonly<Record<string, unknown>>[] {
    return this.#stderr
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));
  }

  /** The door with this label; throws when the start reported none. */
  door(label: string): Door {
    const line = new RegExp(`^${label} +\\[?([^ \\]]+)\\]?:(\\d+) +try: (.+)$`, 'm').exec(this.#stdout);
    const [, host = '', port = '', tryCommand = ''] = line ?? [];
    if (!line) throw new Error(`no door ${label} in: ${this.#stdout}`);
    return { host, port: Number(port), tryCommand };
  }

  /** e.g. `amqp://127.0.0.1:43211` */
  get amqpUrl(): string {
    return `amqp://127.0.0.1:${this.door('amqp').port}`;
  }

  /** Ends it, whatever it is doing. */
  async stop(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}
