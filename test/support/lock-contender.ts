/**
 * A process that wants a data folder: `tsx lock-contender.ts <folder> <times>`. Prints a line for each time it has it,
 * `has <ns>`, and before it lets go of it, `lets-go <ns>`, in nanoseconds of the machine's clock; what refuses it, as
 * `refused <text>`. With <times> 0 it takes it once and keeps it; after a refusal it ends.
 */
import { writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { lockFolder } from '../../broker/storage/folder/lock.ts';

const [folder = '', times = '0'] = process.argv.slice(2);
const STDOUT = 1;

/** How long it has the lock each time, and waits after a refusal, milliseconds. */
const PAUSE_MS = 1;

/** Synchronous, so that what is printed is out before the process is killed. */
function print(line: string): void {
  writeSync(STDOUT, `${line}\n`);
}

async function attempt(): Promise<boolean> {
  try {
    const lock = await lockFolder(folder);
    print(`has ${process.hrtime.bigint()}`);
    if (times === '0') return true;
    await delay(PAUSE_MS);
    print(`lets-go ${process.hrtime.bigint()}`);
    await lock.release();
    return true;
  } catch (error) {
    print(`refused ${error instanceof Error ? error.message : String(error)}`);
    await delay(PAUSE_MS);
    return false;
  }
}

if (times === '0') {
  // Kept alive by standard input.
  if (await attempt()) process.stdin.resume();
} else {
  for (let time = 0; time < Number(times); ) if (await attempt()) time++;
}
