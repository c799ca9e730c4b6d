/**
 * What the commands besides the broker have in common: they work on the data folder of a broker that does not run, say
 * what they have done on standard error, and end with 0, or with 1 when it could not be done, or with 2 when the command
 * line is wrong.
 */
import { ArchiveError } from '../../broker/archive/archive-error.ts';
import { systemClock } from '../../broker/clock.ts';
import { RestoreError } from '../../broker/definition-log.ts';
import type { Files } from '../../broker/storage/folder/files.ts';
import { openStore } from '../../broker/storage/open-store.ts';
import { StoreError } from '../../broker/storage/store-error.ts';
import type { Store, StoreEvent } from '../../broker/store.ts';
import { ConfigError } from '../config.ts';
import type { Config } from '../options.ts';
import { packageVersion } from '../package.ts';

export const EXIT_DONE = 0;
const EXIT_FAILED = 1;
const EXIT_MISCONFIGURED = 2;

/** Prints a sentence for whoever gave the command. */
export type Say = (text: string) => void;

/** Runs a command and answers its exit code; `name` begins what it says. */
export async function runCommand(name: string, command: (say: Say) => Promise<void>): Promise<number> {
  // A store that waits for its disk keeps nothing alive by itself.
  const alive = setInterval(() => {}, 2 ** 30);
  const say: Say = (text) => console.error(`${name}: ${text}`);
  try {
    await command(say);
    return EXIT_DONE;
  } catch (error) {
    if (error instanceof ConfigError) {
      console.error(error.message);
      return EXIT_MISCONFIGURED;
    }
    if (!isFromOutside(error)) throw error;
    say(error.message);
    return EXIT_FAILED;
  } finally {
    clearInterval(alive);
  }
}

/** Something outside this program is in the way; anything else is a defect, and should show its stack. */
function isFromOutside(error: unknown): error is Error {
  if (error instanceof ArchiveError || error instanceof StoreError || error instanceof RestoreError) return true;
  return error instanceof Error && 'syscall' in error;
}

/** Says what the store wants somebody to know. */
export function sayEvent(event: StoreEvent, say: Say): void {
  if ('text' in event) say(event.text);
}

/** Opens the store of a data folder. Throws StoreError. */
export function openFolder(
  { dataDir, recover, messageMemory }: Pick<Config, 'dataDir' | 'recover' | 'messageMemory'>,
  files: Files,
  say: Say,
): Promise<Store> {
  return openStore({
    dataDir,
    recover,
    residentBytesMax: messageMemory,
    version: packageVersion(),
    clock: systemClock,
    onEvent: (event) => sayEvent(event, say),
    files,
  });
}

/** The folder to work on. Throws ConfigError when there is none. */
export function requireFolder({ dataDir }: Pick<Config, 'dataDir'>): string {
  if (dataDir === 'none') throw new ConfigError('data-dir is none: say with --data-dir which folder');
  return dataDir;
}
