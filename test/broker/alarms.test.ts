import { describe, expect, it } from 'vitest';
import { createBroker } from '../../broker/broker.ts';
import type { Alarm } from '../../broker/port.ts';

describe('an alarm that several raise', () => {
  it('is in force until the last of them has cleared it', async () => {
    const broker = await createBroker();
    const { administration } = broker;
    const told: (readonly Alarm[])[] = [];
    await broker.connect(undefined, '/', { onAlarms: (alarms) => void told.push(alarms) });

    await administration.setAlarm('disk', true, 'disk-watch');
    await administration.setAlarm('disk', true, 'store');
    await administration.setAlarm('disk', true);
    await administration.setAlarm('disk', false, 'store');
    await administration.setAlarm('disk', false, 'disk-watch');
    expect(await administration.alarms()).toEqual(['disk']);

    await administration.setAlarm('disk', false, 'administrator');
    expect(await administration.alarms()).toEqual([]);
    expect(told).toEqual([['disk'], []]);
  });

  it('counts each of them once, and each alarm for itself', async () => {
    const { administration } = await createBroker();
    await administration.setAlarm('disk', true, 'store');
    await administration.setAlarm('disk', true, 'store');
    await administration.setAlarm('memory', true, 'store');
    await administration.setAlarm('disk', false, 'store');
    expect(await administration.alarms()).toEqual(['memory']);
  });

  it('is not cleared by somebody who has not raised it', async () => {
    const { administration } = await createBroker();
    await administration.setAlarm('memory', true);
    await administration.setAlarm('memory', false, 'memory-watch');
    expect(await administration.alarms()).toEqual(['memory']);
  });
});
