import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'amqplib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import {
  CHECK_MS_ALARMED,
  CHECK_MS_MAX,
  CHECK_MS_MIN,
  CLEAR_FACTOR,
  type Disk,
  diskOf,
  watchDisk,
} from '../../../gateways/disk-alarm.ts';
import { startEmbedded } from '../../support/embedded-warren.ts';
import { eventually } from '../../support/eventually.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { recordedLog } from '../../support/recorded-log.ts';

const MIB = 1024 * 1024;
const TOTAL_BYTES = 100_000 * MIB;
const LIMIT_BYTES = 100 * MIB;

/** A broker whose disk is what the test says. */
async function scene(freeLimit = LIMIT_BYTES, begin: { freeBytes?: number; error?: Error } = {}) {
  const clock = new ManualClock();
  const { log, lines } = recordedLog();
  const { administration } = await createBroker();
  const state: { freeBytes: number; error: Error | undefined; looks: number } = {
    freeBytes: begin.freeBytes ?? TOTAL_BYTES,
    error: begin.error,
    looks: 0,
  };
  const disk: Disk = {
    async look() {
      state.looks += 1;
      if (state.error) throw state.error;
      return { freeBytes: state.freeBytes, totalBytes: TOTAL_BYTES };
    },
  };
  await watchDisk({ administration, freeLimit, disk, log, clock });
  /** Time passes, in steps so short that no look falls into another. */
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= CHECK_MS_MIN) {
      clock.advance(Math.min(left, CHECK_MS_MIN));
      await new Promise(setImmediate);
    }
  };
  return {
    clock,
    state,
    pass,
    alarms: () => administration.alarms(),
    logged: () => lines.filter(({ level }) => level !== 'debug'),
    /** The disk is looked at, and what it leads to is done. */
    look: () => pass(CHECK_MS_MAX),
  };
}

describe('the disk alarm', () => {
  it.each([
    ['octets', LIMIT_BYTES, LIMIT_BYTES],
    ['a share of the disk', 0.05, 0.05 * TOTAL_BYTES],
  ])('is raised below the limit, and over when there is well more than that: %s', async (_name, limit, bytes) => {
    const { state, alarms, look, logged } = await scene(limit);
    state.freeBytes = bytes;
    await look();
    expect(await alarms()).toEqual([]);
    state.freeBytes = bytes - 1;
    await look();
    expect(await alarms()).toEqual(['disk']);
    state.freeBytes = bytes * CLEAR_FACTOR - 1;
    await look();
    expect(await alarms()).toEqual(['disk']);
    state.freeBytes = bytes * CLEAR_FACTOR;
    await look();
    expect(await alarms()).toEqual([]);
    expect(logged()).toEqual([
      {
        level: 'warn',
        fields: { freeMiB: bytes / MIB },
        message: `disk alarm: publishers wait until there is room; disk-free-limit is ${bytes / MIB} MiB`,
      },
      {
        level: 'info',
        fields: { freeMiB: Math.round((bytes * CLEAR_FACTOR) / MIB), seconds: expect.any(Number) },
        message: 'disk alarm over: publishers go on',
      },
    ]);
  });

  it('stands before the first publisher comes', async () => {
    const { alarms } = await scene(LIMIT_BYTES, { freeBytes: 0 });
    expect(await alarms()).toEqual(['disk']);
  });

  it('says so when the disk is too small for the limit', async () => {
    const { logged } = await scene(2 * TOTAL_BYTES);
    expect(logged()[0]?.message).toContain(
      'disk-free-limit is 200000 MiB, and the whole disk has 100000 MiB only: choose a lower one',
    );
  });

  it('looks rarely while there is room, and often when there is little', async () => {
    const { state, pass, alarms } = await scene();
    expect(state.looks).toBe(1);
    await pass(CHECK_MS_MAX - 1);
    expect(state.looks).toBe(1);
    await pass(1);
    expect(state.looks).toBe(2);
    state.freeBytes = LIMIT_BYTES;
    await pass(CHECK_MS_MAX);
    state.looks = 0;
    await pass(10 * CHECK_MS_MIN);
    expect(state.looks).toBe(10);
    state.freeBytes = 0;
    await pass(CHECK_MS_MIN);
    expect(await alarms()).toEqual(['disk']);
    state.looks = 0;
    await pass(3 * CHECK_MS_ALARMED);
    expect(state.looks).toBe(3);
  });

  it('looks in time for a disk that fills as fast as disks do', async () => {
    const { state, pass, alarms } = await scene();
    for (let tick = 0; (await alarms()).length === 0; tick += 1) {
      state.freeBytes -= 50 * MIB;
      await pass(CHECK_MS_MIN);
      expect(tick).toBeLessThan(10_000);
    }
    expect(state.freeBytes).toBeGreaterThan(0);
  });

  it('is raised when the folder is gone, and over when it is back', async () => {
    const { state, alarms, look, pass, logged } = await scene();
    state.error = new Error('ENOENT: no such file or directory, stat');
    await look();
    expect(await alarms()).toEqual(['disk']);
    await pass(5 * CHECK_MS_ALARMED);
    state.error = undefined;
    await pass(CHECK_MS_ALARMED);
    expect(await alarms()).toEqual([]);
    expect(logged().map(({ message }) => message)).toEqual([
      'disk alarm: the data folder is gone (ENOENT: no such file or directory, stat); publishers wait until it is back. What was confirmed lately may be missing after a restart',
      'disk alarm over: publishers go on',
    ]);
  });

  it('goes on when the folder comes back on a disk that is nearly full', async () => {
    const { state, alarms, look } = await scene();
    state.error = new Error('gone');
    await look();
    Object.assign(state, { error: undefined, freeBytes: LIMIT_BYTES - 1 });
    await look();
    expect(await alarms()).toEqual(['disk']);
    state.freeBytes = LIMIT_BYTES * CLEAR_FACTOR;
    await look();
    expect(await alarms()).toEqual([]);
  });

  it('is not there where free space cannot be told', async () => {
    const { alarms, clock, logged } = await scene(LIMIT_BYTES, {
      error: new Error('ENOSYS: function not implemented'),
    });
    expect(await alarms()).toEqual([]);
    expect(clock.timerCount).toBe(0);
    expect(logged()).toMatchObject([
      { level: 'warn', message: 'the free space of the disk cannot be watched: ENOSYS: function not implemented' },
    ]);
  });

  it('is never raised with a limit of 0', async () => {
    const { state, alarms, clock } = await scene(0, { freeBytes: 0 });
    expect(await alarms()).toEqual([]);
    expect([clock.timerCount, state.looks]).toEqual([0, 0]);
  });
});

describe('over a socket', () => {
  it('publishers wait and are told why, consumers go on, until there is room', async () => {
    const warren = await startEmbedded();
    onTestFinished(() => warren.close());
    const { administration } = warren;
    const clock = new ManualClock();
    const space = { freeBytes: TOTAL_BYTES, totalBytes: TOTAL_BYTES };
    const { log } = recordedLog();
    await watchDisk({ administration, freeLimit: LIMIT_BYTES, disk: { look: async () => space }, log, clock });
    const fill = async (freeBytes: number): Promise<void> => {
      space.freeBytes = freeBytes;
      clock.advance(CHECK_MS_MAX);
      await eventually(async () => expect(await administration.alarms()).toEqual(freeBytes === 0 ? ['disk'] : []));
    };

    const url = `amqp://${warren.host}:${warren.port}`;
    const [publisher, consumer] = [await connect(url), await connect(url)];
    const said: string[] = [];
    publisher.on('blocked', (reason) => said.push(reason)).on('unblocked', () => said.push('unblocked'));
    const channel = await publisher.createConfirmChannel();
    await channel.assertQueue('q');
    channel.sendToQueue('q', Buffer.from('before'));
    await channel.waitForConfirms();

    await fill(0);
    channel.sendToQueue('q', Buffer.from('held back'));
    await eventually(() => expect(said).toEqual(['low on disk']));
    const received: string[] = [];
    const consuming = await consumer.createChannel();
    await consuming.consume('q', (message) => {
      if (message === null) return;
      received.push(message.content.toString());
      consuming.ack(message);
    });
    await eventually(() => expect(received).toEqual(['before']));
    await consuming.checkQueue('q');
    expect(received).toEqual(['before']);

    await fill(TOTAL_BYTES);
    await eventually(() => expect(said).toEqual(['low on disk', 'unblocked']));
    await channel.waitForConfirms();
    await eventually(() => expect(received).toEqual(['before', 'held back']));
    await publisher.close();
    await consumer.close();
  });
});

describe('a disk', () => {
  it('is the one that the folder lies on', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'warren-disk-'));
    const { bsize, blocks } = await statfs(folder);
    const { freeBytes, totalBytes } = await (await diskOf(folder)).look();
    expect(totalBytes).toBe(bsize * blocks);
    expect(freeBytes).toBeGreaterThan(0);
    expect(freeBytes).toBeLessThanOrEqual(totalBytes);
    rmSync(folder, { recursive: true });
  });

  it('is gone with the folder, also when there is another one in its place', async () => {
    const folder = join(mkdtempSync(join(tmpdir(), 'warren-disk-')), 'data');
    mkdirSync(folder);
    const disk = await diskOf(folder);
    renameSync(folder, `${folder}.away`);
    await expect(disk.look()).rejects.toThrow('ENOENT');
    mkdirSync(folder);
    await expect(disk.look()).rejects.toThrow(`${folder} is not the folder it was`);
    rmSync(folder, { recursive: true });
    renameSync(`${folder}.away`, folder);
    expect((await disk.look()).totalBytes).toBeGreaterThan(0);
    rmSync(folder, { recursive: true });
    mkdirSync(folder);
    await expect(disk.look()).rejects.toThrow(`${folder} is not the folder it was`);
  });
});
