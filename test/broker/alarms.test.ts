import { describe, expect, it } from 'vitest';
import { createBroker, createBrokerOn, StoreWatch } from '../../broker/broker.ts';
import { memoryStore } from '../../broker/memory-store.ts';
import type { Alarm } from '../../broker/port.ts';
import type { StoreNotice } from '../../broker/store.ts';

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

describe('a store that cannot write', () => {
  const TROUBLE = { type: 'trouble', text: 'no space left' } as const;
  const RECOVERED = { type: 'recovered', text: 'there is room' } as const;

  it('raises the disk alarm until it can', async () => {
    const told: StoreNotice[] = [];
    const watch = new StoreWatch((event) => void told.push(event));
    const { administration } = await createBrokerOn(memoryStore(), {}, watch);
    watch.onEvent(TROUBLE);
    await administration.setAlarm('disk', false);
    expect(await administration.alarms()).toEqual(['disk']);
    watch.onEvent(RECOVERED);
    expect(await administration.alarms()).toEqual([]);
    expect(told).toEqual([TROUBLE, RECOVERED]);
  });

  it('raises it in the broker that is made on it while it is in trouble', async () => {
    const watch = new StoreWatch(undefined);
    watch.onEvent(TROUBLE);
    const { administration } = await createBrokerOn(memoryStore(), {}, watch);
    expect(await administration.alarms()).toEqual(['disk']);
  });
});
