/** A broker as a child process: started, waited for by a line that it prints, stopped by signal. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';

/** How long a broker may take to come up and to go, in milliseconds. */
const START_MS = 60_000;
const STOP_MS = 20_000;

/** A child that has said that it is ready. */
export interface ReadyChild {
  readonly pid: number;
  /** All that it printed until then. */
  readonly output: string;
  /** SIGTERM, and SIGKILL if that is ignored; resolves when the process is gone. */
  stop(): Promise<void>;
}

/** Starts `command` and resolves when its output matches `ready`. Rejects, with the output, when it does not. */
export async function startChild(
  command: string,
  args: readonly string[],
  options: Pick<SpawnOptions, 'cwd' | 'env'>,
  ready: RegExp,
): Promise<ReadyChild> {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`${command} ${why}; it printed:\n${output}`));
      const read = (chunk: Buffer) => {
        output += chunk.toString();
        if (ready.test(output)) resolve();
      };
      child.stdout.on('data', read);
      child.stderr.on('data', read);
      child.once('error', (error) => fail(error.message));
      child.once('exit', (code) => fail(`ended with ${code} while starting`));
      timer = setTimeout(() => fail('did not become ready'), START_MS);
    });
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    clearTimeout(timer);
  }
  // What it prints from now on is read and dropped: a full pipe would stop it.
  for (const stream of [child.stdout, child.stderr]) stream.removeAllListeners('data').resume();
  return { pid: child.pid ?? 0, output, stop: () => stopChild(child) };
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  child.kill('SIGTERM');
  await gone;
  clearTimeout(timer);
}
