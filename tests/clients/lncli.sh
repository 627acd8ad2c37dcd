#!/bin/sh
# A script as people write them for lncli: opens, pays, lists, closes. Here `lncli` is `leyden --json`.
#
# Speaks with the test that started it over lines, as `ln-service.js` does.

lncli() { leyden --json --lnddir "$ALICE" --network regtest "$@"; }
lncli_bob() { leyden --json --lnddir "$BOB" -n regtest "$@"; }

# json FIELD…: that field of what is read, in whatever language is there.
json() { python3 -c '
import json, sys
found = json.load(sys.stdin)
for name in sys.argv[1:]:
    found = found[int(name)] if isinstance(found, list) else found[name]
print(found)' "$@"; }

mine() { echo "{\"mine\": $1}"; read -r _; }
works() { echo "{\"call\": \"$1\", \"said\": null}"; }
fails() { echo "{\"call\": \"$1\", \"said\": \"$2\"}"; exit 1; }
# try NAME COMMAND…: what it prints goes on; a failure ends the script.
try() {
    name=$1; shift
    if printed=$("$@" 2>"$ALICE/error"); then works "$name" >&3; else fails "$name" "$(tr -d '\"\n' <"$ALICE/error")" >&3; fi
    printf '%s\n' "$printed"
}
exec 3>&1
is() { [ "$2" = "$3" ] || fails "$1" "$2 is not $3"; }

try getinfo lncli getinfo >/dev/null
try walletbalance lncli walletbalance | json confirmed_balance >/dev/null || fails walletbalance "no balance"
try newaddress lncli newaddress p2wkh >/dev/null
ADDR=$(lncli newaddress p2wkh | json address)
try sendcoins lncli sendcoins --addr="$ADDR" --amt=75000 --sat_per_vbyte=2 --force >/dev/null
try "listunspent" lncli listunspent --min_confs=1 --max_confs=99999 >/dev/null
COIN=$(lncli listunspent --min_confs 1 | json utxos 0 outpoint)
case $COIN in *:*) ;; *) fails listunspent "outpoint is $COIN" ;; esac
PEER=$(lncli_bob getinfo | json identity_pubkey)
HOST=$(lncli_bob getinfo | json uris 0 | cut -d@ -f2)
try connect lncli connect "$PEER@$HOST" --timeout=60s >/dev/null
TXID=$(try openchannel lncli openchannel --node_key="$PEER" --local_amt=1000000 --push_amt=200000 --sat_per_vbyte=2 | json funding_txid)
try pendingchannels lncli pendingchannels >/dev/null
is pendingchannels "$(lncli pendingchannels | json pending_open_channels 0 channel remote_node_pub)" "$PEER"
mine 6
for _ in $(seq 600); do
    [ "$(lncli listchannels --active_only | json channels 0 active 2>/dev/null)" = True ] && break
    sleep 0.2
done
try listchannels lncli listchannels --active_only >/dev/null
POINT=$(lncli listchannels | json channels 0 channel_point)
is listchannels "${POINT%:*}" "$TXID"
is "listchannels (scid)" "$(lncli listchannels | json channels 0 scid)" "$(lncli listchannels | json channels 0 chan_id)"
PAY_REQ=$(lncli_bob addinvoice --amt=1000 --memo="a cup of tea" | json payment_request)
try decodepayreq lncli decodepayreq --pay_req="$PAY_REQ" >/dev/null
is decodepayreq "$(lncli decodepayreq "$PAY_REQ" | json num_satoshis)" 1000
STATUS=$(try sendpayment lncli sendpayment --pay_req="$PAY_REQ" --force --timeout=60s --fee_limit=10 --json | json status)
is sendpayment "$STATUS" SUCCEEDED
try payinvoice lncli payinvoice --pay_req "$(lncli_bob addinvoice 2000 | json payment_request)" -f >/dev/null
try "sendpayment --keysend" lncli sendpayment --dest="$PEER" --amt=300 --keysend -f >/dev/null
try listpayments lncli listpayments --include_incomplete --max_payments=10 --paginate_forwards >/dev/null
is listpayments "$(lncli listpayments | json payments 0 value_sat)" 1000
RHASH=$(lncli addinvoice --amt 500 --description_hash "$(printf 'ab%.0s' $(seq 32))" | json r_hash)
try lookupinvoice lncli lookupinvoice --rhash="$RHASH" >/dev/null
try cancelinvoice lncli cancelinvoice "$RHASH" >/dev/null
try listinvoices lncli listinvoices --max_invoices=5 >/dev/null
try queryroutes lncli queryroutes --dest="$PEER" --amt=1000 --use_mc >/dev/null
try getnodeinfo lncli getnodeinfo --pub_key="$(lncli getinfo | json identity_pubkey)" --include_channels >/dev/null
try getchaninfo lncli getchaninfo --chan_point "$POINT" >/dev/null
try describegraph lncli describegraph --include_unannounced >/dev/null
try getnetworkinfo lncli getnetworkinfo >/dev/null
try updatechanpolicy lncli updatechanpolicy --base_fee_msat=1000 --fee_rate=0.00025 --time_lock_delta=80 --chan_point="$POINT" >/dev/null
is updatechanpolicy "$(lncli feereport | json channel_fees 0 fee_per_mil)" 250
try updatechanstatus lncli updatechanstatus --chan_point "$POINT" --action disable >/dev/null
try updatechanstatus lncli updatechanstatus "${POINT%:*}" "${POINT#*:}" enable >/dev/null
try fwdinghistory lncli fwdinghistory --start_time=-1d >/dev/null
SIGNATURE=$(try signmessage lncli signmessage "hello" | json signature)
is verifymessage "$(lncli verifymessage --msg hello --sig "$SIGNATURE" | json valid)" True
try "wallet accounts list" lncli wallet accounts list >/dev/null
try "wallet estimatefeerate" lncli wallet estimatefeerate 6 >/dev/null
try "wallet requiredreserve" lncli wallet requiredreserve >/dev/null
try sendmany lncli sendmany "{\"$ADDR\": 60000}" --sat_per_vbyte 2 >/dev/null
is "chain getblockhash" "$(lncli chain getblockhash "$(lncli chain getbestblock | json block_height)" | json block_hash)" "$(lncli chain getbestblock | json block_hash)"
try version lncli version >/dev/null
try exportchanbackup lncli exportchanbackup --all --output_file "$ALICE/backup" >/dev/null
try verifychanbackup lncli verifychanbackup --multi_file "$ALICE/backup" >/dev/null
try bakemacaroon lncli bakemacaroon --save_to "$ALICE/narrow" info:read >/dev/null
lncli getnodemetrics 2>"$ALICE/error" && fails getnodemetrics "it is not served"
grep -q "not served" "$ALICE/error" || fails getnodemetrics "not said so"
try closechannel lncli closechannel --funding_txid="${POINT%:*}" --output_index="${POINT#*:}" --sat_per_vbyte=2 >/dev/null
mine 6
for _ in $(seq 600); do
    [ "$(lncli closedchannels --cooperative | json channels 0 close_type 2>/dev/null)" = COOPERATIVE_CLOSE ] && break
    sleep 0.2
done
try closedchannels lncli closedchannels --cooperative >/dev/null
is closedchannels "$(lncli closedchannels | json channels 0 channel_point)" "$POINT"
works "all steps"
