/** The version of the package that this code came in, for the data folders that it makes. */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** e.g. `0.1.0` */
export function packageVersion(): string {
  const { version }: { version: string } = require('warren/package.json');
  return version;
}
