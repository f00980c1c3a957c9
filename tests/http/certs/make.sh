#!/bin/sh
# Makes the certificates of this folder, with OpenSSL 3: run it here to make them again. They are for tests on loopback
# only, so their keys are no secret. Each file but authority.pem holds a certificate and its key.
set -eu
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
mkdir "$work/new" && : >"$work/index" && echo 1000 >"$work/serial"
cat >"$work/ca.conf" <<CONF
[req]
distinguished_name = subject
[subject]
[ca]
default_ca = ours
[ours]
database = $work/index
serial = $work/serial
new_certs_dir = $work/new
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CONF
key "$work/authority.key"
openssl req -x509 -new -key "$work/authority.key" -days 36500 -subj "/CN=weft tests' authority" \
    -config "$work/ca.conf" -extensions authority -out authority.pem
issue() { # name, usage, names, first day, last day
    key "$work/$1.key"
    openssl req -new -key "$work/$1.key" -subj "/CN=$1" -out "$work/$1.csr"
    cat >"$work/$1.ext" <<CONF
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $2
subjectAltName = $3
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
CONF
    openssl ca -batch -notext -config "$work/ca.conf" -cert authority.pem -keyfile "$work/authority.key" \
        -startdate "$4" -enddate "$5" -extfile "$work/$1.ext" -in "$work/$1.csr" -out "$work/$1.crt" 2>/dev/null
    cat "$work/$1.crt" "$work/$1.key" >"$1.pem"
}
issue server serverAuth "DNS:localhost,DNS:origin.test,IP:127.0.0.1,IP:::1" 20200101000000Z 21200101000000Z
issue elsewhere serverAuth "DNS:elsewhere.test" 20200101000000Z 21200101000000Z
issue expired serverAuth "DNS:localhost,IP:127.0.0.1" 20200101000000Z 20210101000000Z
issue client clientAuth "DNS:client.test" 20200101000000Z 21200101000000Z
