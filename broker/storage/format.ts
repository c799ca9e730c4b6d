/**
 * The file FORMAT of a data folder: which layout the folder has. A folder of a newer layout is refused, one of an older
 * layout upgraded, by one step after the other.
 *
 *     {"format":1,"writtenBy":"warren 0.1.0"}
 */
import type { Files } from './files.ts';

/** Brings a data folder from the format `from` to the format `from + 1`. */
export interface FormatStep {
  readonly from: number;
  /**
   * Changes what is in the data folder `path`. May be cut short at any point and is then run again from its start. What
   * it leaves must be synced.
   */
  upgrade(path: string, files: Files): Promise<void>;
}

/** The formats a version of Warren knows. */
export interface Formats {
  /** The one it writes. */
  readonly current: number;
  /** From each older format that it still reads. */
  readonly steps: readonly FormatStep[];
}

/** This version's. */
export const FORMATS: Formats = { current: 1, steps: [] };
