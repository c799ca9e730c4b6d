/**
 * A process for which permissions hold, also when the tests run as root: `tsx unprivileged-opener.ts`. For each line of
 * its standard input, the path of a data folder, it opens and closes the store there and prints a line: `opened`, or the
 * error as JSON.
 */
import { createInterface } from 'node:readline';
import { openStore } from '../../broker/storage/open-store.ts';

/** The user that owns nothing. */
const NOBODY = 65534;

if (process.getuid?.() === 0) {
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}

for await (const dataDir of createInterface({ input: process.stdin })) {
  try {
    const store = await openStore({ dataDir, version: '0.1.0', reserveBytes: 0 });
    await store.close();
    console.log('opened');
  } catch (error) {
    console.log(JSON.stringify(error instanceof Error ? { name: error.name, message: error.message } : { error }));
  }
}
