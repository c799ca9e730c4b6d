/** Runs programs in other languages against the broker under test and listens to what they print. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe } from 'vitest';
import { eventually } from '../../support/eventually.ts';

/** Where the programs are. */
export const PROGRAMS = join(import.meta.dirname, 'programs');

/** Debian's own Python, which sees the libraries that Debian packs. */
export const PYTHON = '/usr/bin/python3';

/** How long a program may take until it prints what a test waits for, in milliseconds. */
const LINE_TIMEOUT_MS = 60_000;

/** `describe` when the probe succeeds; else the tests are shown as skipped, with the Debian packages that they need. */
export function describeWith(packages: string, probe: readonly string[]): (name: string, tests: () => void) => void {
  const [command = '', ...args] = probe;
  let installed = true;
  try {
    execFileSync(command, args, { stdio: 'ignore' });
  } catch {
    installed = false;
  }
  return (name, tests) => {
    describe.skipIf(!installed)(installed ? name : `${name} [needs the Debian packages ${packages}]`, tests);
  };
}

/** One running program. `stop` it in the end; a program that has ended by itself does not mind. */
export class ForeignProgram {
  readonly #child: ChildProcessWithoutNullStreams;
  #printed = '';

  constructor(command: string, args: readonly string[], env: Record<string, string> = {}) {
    this.#child = spawn(command, args, {
      cwd: PROGRAMS,
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', ...env },
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#printed += text;
      });
    }
  }

  /** All that it has written, on both outputs. */
  get printed(): string {
    return this.#printed;
  }

  /** Resolves when it has printed `text`; throws with all it printed when that takes too long or it has ended. */
  async waitFor(text: string): Promise<void> {
    let ended = false;
    await eventually(
      () => {
        if (this.#printed.includes(text)) return;
        if (this.#child.exitCode !== null) ended = true;
        if (!ended) throw new Error(`still waiting for “${text}”; printed so far:\n${this.#printed}`);
      },
      { timeoutMs: LINE_TIMEOUT_MS },
    );
    if (ended && !this.#printed.includes(text)) throw new Error(`ended without printing “${text}”:\n${this.#printed}`);
  }

  /** Writes a line to its standard input. */
  say(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Its exit code when it has ended by itself; throws with all it printed when that is not 0. */
  async succeeds(): Promise<void> {
    if (this.#child.exitCode === null) await once(this.#child, 'close');
    if (this.#child.exitCode !== 0) throw new Error(`exit code ${this.#child.exitCode}:\n${this.#printed}`);
  }

  /** Asks it to end, waits until it has. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGTERM');
    const hard = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await closed;
    clearTimeout(hard);
  }
}
