/** Certificates for TLS tests, made anew in each run. */
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CertificateField, generate } from 'selfsigned';
import { loadTls, type TlsIdentity } from '../../gateways/tls.ts';

/** A certificate and its key, in PEM. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** An authority, good for `localhost`, `127.0.0.1` and `::1` as a server too. */
export function makeAuthority(commonName: string): Promise<KeyPair> {
  return make([{ name: 'commonName', value: commonName }], { cA: true });
}

/** A certificate issued by `authority`; `subject` in its order in the certificate. */
export function issue(authority: KeyPair, subject: readonly CertificateField[]): Promise<KeyPair> {
  return make(subject, { cA: false }, authority);
}

async function make(
  subject: readonly CertificateField[],
  basicConstraints: { readonly cA: boolean },
  ca?: KeyPair,
): Promise<KeyPair> {
  const pems = await generate([...subject], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', ...basicConstraints },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
          { type: 7, ip: '::1' },
        ],
      },
    ],
    ...(ca && { ca }),
  });
  return { cert: pems.cert, key: pems.private };
}

/** Writes `name` → PEM text into a new folder and answers `name` → path. */
export async function writePems<Name extends string>(pems: Record<Name, string>): Promise<Record<Name, string>> {
  const folder = await mkdtemp(join(tmpdir(), 'warren-tls-'));
  const paths: Partial<Record<Name, string>> = {};
  for (const name of Object.keys(pems) as Name[]) {
    paths[name] = join(folder, `${name}.pem`);
    await writeFile(join(folder, `${name}.pem`), pems[name]);
  }
  return paths as Record<Name, string>;
}

/** What a door needs to serve TLS as `localhost`, and the certificate that its clients are to trust: its PEM, and the file. */
export async function localhostTls(): Promise<{ tls: TlsIdentity; authority: string; authorityFile: string }> {
  const { cert, key } = await makeAuthority('localhost');
  const files = await writePems({ cert, key });
  const tls = await loadTls({
    certificateFile: files.cert,
    keyFile: files.key,
    verifyClient: 'none',
    certificateName: 'common-name',
    minVersion: 'TLSv1.2',
  });
  return { tls, authority: cert, authorityFile: files.cert };
}
