/** A command of the built program that does its work and ends, e.g. `warren export`. */
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { MAIN } from './warren-process.ts';

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface WarrenCommandOptions {
  /** The environment beside PATH. */
  readonly environment?: Readonly<Record<string, string>>;
  /** What the shell does first that becomes the program, e.g. `ulimit -f 1`. */
  readonly after?: string;
}

/** Runs it to its end. */
export async function warrenCommand(
  words: readonly string[],
  { environment = {}, after = ':' }: WarrenCommandOptions = {},
): Promise<Ended> {
  const child = spawn('sh', ['-c', `${after}; exec "$0" "$@"`, process.execPath, MAIN, ...words], {
    env: { PATH: process.env.PATH ?? '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited]);
  return { code, stdout, stderr };
}
