/** Contact lists among the broker's settings: written when they change, all of it before the door has closed. */
import { expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { RosterStore } from '../../../gateways/xmpp/roster.ts';

it('is written to the last change, also while it is being written', async () => {
  const broker = await createBroker();
  const { administration } = broker;
  const importDefinitions: typeof administration.importDefinitions = async (definitions) => {
    await new Promise((resolve) => setImmediate(resolve));
    return administration.importDefinitions(definitions);
  };
  const store = new RosterStore({ ...administration, importDefinitions }, SILENT_LOG);
  const roster = store.open('anna');
  for (const jid of ['one@localhost', 'two@localhost', 'three@localhost']) {
    roster.alter(jid, { listed: true });
    // The write of the first has begun when the second comes.
    await Promise.resolve();
  }
  await store.flush();
  const later = new RosterStore(broker.administration, SILENT_LOG);
  await later.load();
  expect(later.open('anna').items.map(({ jid }) => jid)).toEqual(['one@localhost', 'two@localhost', 'three@localhost']);
  await broker.close();
});

it('that cannot be written is said so, and the process goes on', async () => {
  const broker = await createBroker();
  const { administration } = broker;
  const errors: string[] = [];
  const log = { ...SILENT_LOG, error: (_fields: object, message: string) => void errors.push(message) };
  const full = { ...administration, importDefinitions: () => Promise.reject(new Error('no space left on device')) };
  const store = new RosterStore(full, log);
  const roster = store.open('anna');
  roster.alter('one@localhost', { listed: true });
  await store.flush();
  expect(errors).toEqual(['XMPP: contact lists not kept']);
  expect(roster.has('one@localhost')).toBe(true);
  await broker.close();
});
