/*
 * Tells Portcullis of a change request, signed as Standard Webhooks 1.0 has it.
 *
 * Paste it twice, in the global scope:
 *   1. a business rule on change_request: async, on insert and update;
 *   2. a script action for the event portcullis.retry, which is registered in the
 *      event registry for the table change_request.
 *
 * It needs two system properties, neither of which is a secret:
 *   portcullis.webhook.url         https://…/webhooks/servicenow
 *   portcullis.webhook.credential  the sys_id of a credential (basic auth) whose
 *                                  password is the secret, whsec_…
 *
 * A record that is deleted sends nothing: cancel it instead.
 */
(function (change, retry) {
    var RETRIES = 8; // after 1, 2, 4 … 128 minutes

    function text(field) {
        var value = change.getValue(field);
        return value ? String(value) : '';
    }

    // In the database a date is UTC: 2026-11-24 20:00:00.
    function time(field) {
        var value = text(field);
        return value ? value.replace(' ', 'T') + 'Z' : '';
    }

    // ASCII alone, so that what is signed and what is sent are the same bytes in every
    // character set; and no dollar sign, which RESTMessageV2 takes for a variable.
    function body() {
        return JSON.stringify({
            table: 'change_request',
            sys_id: text('sys_id'),
            number: text('number'),
            state: text('state'),
            sys_mod_count: Number(text('sys_mod_count')),
            sys_updated_on: time('sys_updated_on'),
            sys_updated_by: text('sys_updated_by'),
            assigned_to: change.assigned_to ? String(change.assigned_to.email || '') : '',
            start_date: time('start_date'),
            end_date: time('end_date'),
            short_description: text('short_description'),
            u_virtual_machine: text('u_virtual_machine'),
            u_port: text('u_port'),
            u_source_address: text('u_source_address')
        }).replace(/[^\x20-\x23\x25-\x7e]/g, function (c) {
            return '\\u' + ('000' + c.charCodeAt(0).toString(16)).slice(-4);
        });
    }

    function send() {
        var url = String(gs.getProperty('portcullis.webhook.url') || '');
        if (url.indexOf('https://') !== 0) {
            return 'portcullis.webhook.url is not an https URL';
        }
        var credential = new sn_cc.StandardCredentialsProvider().getCredentialByID(gs.getProperty('portcullis.webhook.credential'));
        var secret = credential ? String(credential.getAttribute('password') || '') : '';
        if (secret.indexOf('whsec_') !== 0) {
            return 'portcullis.webhook.credential names no credential whose password begins with whsec_';
        }
        // The same state of the record has the same id, however often it is sent.
        var id = text('sys_id') + '-' + text('sys_mod_count');
        var timestamp = String(Math.floor(Number(new GlideDateTime().getNumericValue()) / 1000));
        var payload = body();
        // The key that generateMac takes is base64, which is what follows whsec_.
        var mac = new GlideCertificateEncryption().generateMac(secret.substring(6), 'HmacSHA256', id + '.' + timestamp + '.' + payload);

        var request = new sn_ws.RESTMessageV2();
        request.setEndpoint(url);
        request.setHttpMethod('POST');
        request.setHttpTimeout(10000);
        request.setRequestHeader('Content-Type', 'application/json');
        request.setRequestHeader('webhook-id', id);
        request.setRequestHeader('webhook-timestamp', timestamp);
        request.setRequestHeader('webhook-signature', 'v1,' + mac);
        request.setRequestBody(payload);
        var status = Number(request.execute().getStatusCode());
        if (status >= 200 && status < 300) {
            return '';
        }
        if (status >= 400 && status < 500 && status !== 408 && status !== 425 && status !== 429) {
            gs.error('Portcullis refuses ' + text('number') + ' with status ' + status + ', for good');
            return '';
        }
        return 'status ' + status;
    }

    var attempt = retry && String(retry.name) === 'portcullis.retry' ? Number(retry.parm1) : 0;
    var fault;
    try {
        fault = send();
    } catch (e) {
        fault = 'no answer'; // what was thrown may hold more than belongs in a log
    }
    if (!fault) {
        return;
    }
    if (attempt >= RETRIES) {
        gs.error('Portcullis was not told of ' + text('number') + ': ' + fault + '; given up');
        return;
    }
    gs.warn('Portcullis was not told of ' + text('number') + ': ' + fault + '; it is tried again');
    var at = new GlideDateTime();
    at.addSeconds(60 * Math.pow(2, attempt));
    gs.eventQueueScheduled('portcullis.retry', change, String(attempt + 1), '', at);
})(current, typeof event === 'undefined' ? null : event);
