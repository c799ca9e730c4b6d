/**
 * The disk alarm: publishers are held back before the disk of the data folder is full, until there is room again.
 *
 * A full disk loses nothing: the store withholds confirms until it can write. But it takes the disk from every other
 * program on it too, and leaves no room for the acks that would give space back. So publishers wait while there is some.
 *
 * A folder that is not there any more is worse than a full one: the files stay open and take what is written, and nobody
 * will find it after a restart. So that raises the alarm too.
 */
import { openSync } from 'node:fs';
import { stat, statfs } from 'node:fs/promises';
import { type Clock, systemClock } from '../broker/clock.ts';
import type { Broker } from '../broker/port.ts';
import type { Log } from './log.ts';

/** Octets of a file system. */
export interface DiskSpace {
  /** That this process may still write; some file systems keep a rest for the administrator. */
  readonly freeBytes: number;
  readonly totalBytes: number;
}

export interface Disk {
  /** Rejects with an Error that says why when it cannot be looked at, or is not there any more. */
  look(): Promise<DiskSpace>;
}

export interface DiskAlarmOptions {
  readonly administration: Pick<Broker['administration'], 'setAlarm'>;
  /** Free space below which the alarm is raised: below 1 a share of the whole disk, above octets; 0 = never. */
  readonly freeLimit: number;
  readonly disk: Disk;
  readonly log: Log;
  readonly clock?: Clock;
}

/** The alarm is over when the limit is free so many times; more than 1, or it would come and go with every segment. */
export const CLEAR_FACTOR = 1.1;
/** Between two looks: long while there is room, short before the limit. */
export const CHECK_MS_MIN = 100;
export const CHECK_MS_MAX = 10_000;
/** Between two looks while the alarm lasts. */
export const CHECK_MS_ALARMED = 1000;
/** How fast a disk can be filled; half of what a good one takes in, for others write to it too. */
const GROWTH_BYTES_PER_MS = 512 * 1024;

/** Who raises it, so that the store may raise one of its own beside it. */
const ALARM_SOURCE = 'disk-free-limit';

const MEBIBYTE = 1024 * 1024;

/**
 * The disk that `folder` lies on. It is gone when another folder, or none, has taken the place of the one seen now; to
 * tell, the folder is kept open for as long as the process lives.
 */
export async function diskOf(folder: string): Promise<Disk> {
  const opened = await stat(folder, { bigint: true });
  keepInode(folder);
  return {
    async look() {
      const [now, { bsize, bavail, blocks }] = await Promise.all([stat(folder, { bigint: true }), statfs(folder)]);
      if (now.ino !== opened.ino || now.dev !== opened.dev) throw new Error(`${folder} is not the folder it was`);
      return { freeBytes: bsize * bavail, totalBytes: bsize * blocks };
    },
  };
}

/** A number of an inode is given anew when nobody has it open: a folder made later could pass for the one before. */
function keepInode(folder: string): void {
  try {
    openSync(folder, 'r');
  } catch {
    // Windows opens no folders, and gives no number twice.
  }
}

/**
 * Watches the disk from now on, for as long as the process lives; keeps it alive no longer. Resolves after the first
 * look, so that the alarm stands before the first publisher comes. Where the first look fails, the disk cannot be
 * watched; the log says so.
 */
export async function watchDisk(options: DiskAlarmOptions): Promise<void> {
  if (options.freeLimit > 0) await new DiskAlarm(options).begin();
}

/** What the alarm is raised for. */
type Trouble = 'low' | 'gone';

class DiskAlarm {
  readonly #administration: Pick<Broker['administration'], 'setAlarm'>;
  readonly #freeLimit: number;
  readonly #disk: Disk;
  readonly #log: Log;
  readonly #clock: Clock;
  #trouble: Trouble | undefined;
  #raisedAtMs = 0;

  constructor({ administration, freeLimit, disk, log, clock = systemClock }: DiskAlarmOptions) {
    this.#administration = administration;
    this.#freeLimit = freeLimit;
    this.#disk = disk;
    this.#log = log;
    this.#clock = clock;
  }

  async begin(): Promise<void> {
    try {
      const space = await this.#disk.look();
      const fields = { freeMiB: mebibytes(space.freeBytes), limitMiB: mebibytes(this.#limitBytes(space)) };
      this.#log.debug(fields, 'watching the free space of the disk');
      this.#judge(space);
    } catch (error) {
      this.#log.warn({}, `the free space of the disk cannot be watched: ${reasonOf(error)}`);
    }
  }

  async #check(): Promise<void> {
    try {
      this.#judge(await this.#disk.look());
    } catch (error) {
      const text = `disk alarm: the data folder is gone (${reasonOf(error)}); publishers wait until it is back`;
      this.#raise('gone', {}, `${text}. What was confirmed lately may be missing after a restart`);
      this.#checkIn(CHECK_MS_ALARMED);
    }
  }

  /** Does what is to be done, and sees to the next look. */
  #judge(space: DiskSpace): void {
    const { freeBytes, totalBytes } = space;
    const limitBytes = this.#limitBytes(space);
    const fields = { freeMiB: mebibytes(freeBytes) };
    if (freeBytes < limitBytes) {
      const allowed = mebibytes(limitBytes);
      const hopeless = limitBytes * CLEAR_FACTOR > totalBytes;
      const cure = hopeless ? `, and the whole disk has ${mebibytes(totalBytes)} MiB only: choose a lower one` : '';
      this.#raise(
        'low',
        fields,
        `disk alarm: publishers wait until there is room; disk-free-limit is ${allowed} MiB${cure}`,
      );
    } else if (this.#trouble === 'gone' || freeBytes >= limitBytes * CLEAR_FACTOR) {
      this.#clear(fields);
    }
    const roomMs = (freeBytes - limitBytes) / GROWTH_BYTES_PER_MS;
    const isAlarmed = this.#trouble !== undefined;
    this.#checkIn(isAlarmed ? CHECK_MS_ALARMED : Math.min(Math.max(roomMs, CHECK_MS_MIN), CHECK_MS_MAX));
  }

  #limitBytes({ totalBytes }: DiskSpace): number {
    return this.#freeLimit < 1 ? this.#freeLimit * totalBytes : this.#freeLimit;
  }

  #checkIn(milliseconds: number): void {
    this.#clock.schedule(milliseconds, () => void this.#check());
  }

  #raise(trouble: Trouble, fields: object, text: string): void {
    if (this.#trouble === trouble) return;
    if (this.#trouble === undefined) this.#raisedAtMs = this.#clock.now();
    this.#trouble = trouble;
    this.#log.warn(fields, text);
    void this.#administration.setAlarm('disk', true, ALARM_SOURCE);
  }

  #clear(fields: object): void {
    if (this.#trouble === undefined) return;
    this.#trouble = undefined;
    const seconds = Math.round((this.#clock.now() - this.#raisedAtMs) / 1000);
    this.#log.info({ ...fields, seconds }, 'disk alarm over: publishers go on');
    void this.#administration.setAlarm('disk', false, ALARM_SOURCE);
  }
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / MEBIBYTE);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
