/** The package that this code came in: its version and its folder, whether it runs from sources or built. */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

const require = createRequire(import.meta.url);

/** e.g. `0.1.0` */
export function packageVersion(): string {
  const { version }: { version: string } = require('warren/package.json');
  return version;
}

/** The folder of package.json. */
export function packageFolder(): string {
  return dirname(require.resolve('warren/package.json'));
}
