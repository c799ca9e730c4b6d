/** slixmpp, the usual XMPP client of Python, on the client port. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Gateway } from '../../../gateways/gateway.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { openXmppDoor, startXmppGateway } from '../../../gateways/xmpp/gateway.ts';
import { useXmpp } from '../../gateways/xmpp/scene.ts';
import { localhostTls } from '../../support/certificates.ts';
import { describeWith, ForeignProgram, PYTHON } from '../interop/foreign-program.ts';

const PROGRAM = join(import.meta.dirname, 'programs/slixmpp-client.py');

describeWith('python3-slixmpp', [PYTHON, '-c', 'import slixmpp'])('slixmpp', () => {
  const scene = useXmpp();

  it.each(['disco', 'commands', 'pubsub', 'contact'])('%s', async (scenario) => {
    const program = new ForeignProgram(PYTHON, [PROGRAM, String(scene.port), scenario, 'guest@localhost', 'guest']);
    await program.succeeds();
    // It has more to say about itself, on the other output.
    expect(program.printed).toMatch(/^done$/m);
  });

  let secure: Gateway;
  let authority = '';
  beforeAll(async () => {
    const made = await localhostTls();
    authority = made.authorityFile;
    const { tls } = made;
    const door = await openXmppDoor(scene.broker, { tls, withoutTls: 'nobody', userDomain: 'localhost' });
    const listener = { host: '127.0.0.1', port: 0, connectionsMax: 100, handshakeTimeoutMs: 10_000, log: SILENT_LOG };
    secure = await startXmppGateway(door, listener);
  });
  afterAll(() => secure.close());

  it('channel binding, after STARTTLS', async () => {
    const port = String(secure.addresses[0]?.port);
    const words = [PROGRAM, port, 'channel_binding', 'guest@localhost', 'guest', authority];
    const program = new ForeignProgram(PYTHON, words);
    await program.succeeds();
    expect(program.printed).toMatch(/^done$/m);
  });
});
