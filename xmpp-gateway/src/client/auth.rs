//! SASL from the client's side. Only SCRAM and EXTERNAL: by SCRAM the server proves that it knows the password's keys too, and by
//! EXTERNAL nothing secret is sent at all, so a wrong server learns nothing it could use.

use super::login::Talk;
use super::tls::Shows;
use crate::ns;
use crate::sasl::scram;
use crate::stanza::set_attr;
use archipel_contract::{Fault, FaultKind};
use base64::{Engine, engine::general_purpose::STANDARD};
use minidom::Element;
use rxml::xml_ncname;

/// The mechanisms we know, best first.
const HASHES: [scram::Hash; 2] = [scram::Hash::Sha256, scram::Hash::Sha1];

/// By certificate (XEP-0178).
const EXTERNAL: &str = "EXTERNAL";

/// Logs in with the best mechanism both sides know.
pub(super) async fn authenticate(talk: &mut Talk<'_>, features: &Element) -> Result<(), Fault> {
    let offered: Vec<String> = features
        .get_child("mechanisms", ns::SASL)
        .map(|m| m.children().filter(|c| c.is("mechanism", ns::SASL)).map(Element::text).collect())
        .unwrap_or_default();
    if let Shows::Certificate(_) = talk.config.connector.shows() {
        if !offered.iter().any(|o| o == EXTERNAL) {
            let message = format!("{} takes no certificates; look whether that is the exchange this host joined", talk.server());
            return Err(Fault::new(FaultKind::Unsupported, message));
        }
        let mut auth = carrying("auth", &format!("{}@{}", talk.config.user, talk.config.domain));
        set_attr(&mut auth, xml_ncname!("mechanism"), EXTERNAL);
        talk.send(&auth).await?;
        let answer = talk.element().await?;
        return match answer.name() {
            "success" => Ok(()),
            "failure" => Err(refused(talk, &answer)),
            other => Err(Fault::unavailable(format!("{} answered the login with <{other}/>", talk.server()))),
        };
    }
    let Some(hash) = HASHES.into_iter().find(|hash| offered.iter().any(|o| o == hash.mechanism())) else {
        return Err(Fault::new(
            FaultKind::Unsupported,
            format!("{} offers no login that keeps the password secret (SCRAM-SHA-256 or SCRAM-SHA-1)", talk.server()),
        ));
    };
    let password = scram::prepare(&talk.config.password)
        .ok_or_else(|| Fault::new(FaultKind::Forbidden, "the password is empty or holds characters that no password may hold"))?;
    let nonce = scram::nonce().map_err(|e| Fault::internal("the system gives no random numbers").because(e))?;
    let (mut client, first) = scram::ClientExchange::begin(hash, &talk.config.user, &nonce);
    let mut auth = carrying("auth", &first);
    set_attr(&mut auth, xml_ncname!("mechanism"), hash.mechanism());
    talk.send(&auth).await?;
    loop {
        let answer = talk.element().await?;
        match answer.name() {
            "challenge" => {
                let challenge = content(talk, &answer)?;
                let password = password.clone();
                // Deriving the keys is slow by design.
                let (back, response) = tokio::task::spawn_blocking(move || {
                    let response = client.answer(&password, &challenge);
                    (client, response)
                })
                .await
                .map_err(|e| Fault::internal("the login was interrupted").because(e))?;
                client = back;
                let response = response.map_err(|e| distrust(talk, &e))?;
                talk.send(&carrying("response", &response)).await?;
            }
            "success" => {
                let last = content(talk, &answer)?;
                return client.verify(&last).map_err(|e| distrust(talk, &e));
            }
            "failure" => return Err(refused(talk, &answer)),
            other => return Err(Fault::unavailable(format!("{} answered the login with <{other}/>", talk.server()))),
        }
    }
}

fn carrying(name: &str, text: &str) -> Element {
    let mut element = Element::bare(name, ns::SASL);
    element.append_text(STANDARD.encode(text));
    element
}

fn content(talk: &Talk<'_>, element: &Element) -> Result<String, Fault> {
    STANDARD
        .decode(element.text().trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Fault::unavailable(format!("{} answered the login with something that is not base64", talk.server())))
}

fn distrust(talk: &Talk<'_>, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Forbidden, format!("{} does not prove that it knows {}; nothing was sent to it", talk.server(), talk.config.user))
        .because(error)
}

fn refused(talk: &Talk<'_>, failure: &Element) -> Fault {
    let condition = failure.children().find(|c| c.name() != "text").map_or("failure", Element::name);
    let text = failure.get_child("text", ns::SASL).map(Element::text).filter(|t| !t.is_empty());
    let (user, domain) = (&talk.config.user, &talk.config.domain);
    let (kind, message) = match condition {
        "temporary-auth-failure" => (FaultKind::Busy, format!("{} cannot check logins at the moment; try again", talk.server())),
        "account-disabled" => (FaultKind::Forbidden, format!("the account {user}@{domain} is disabled")),
        _ if matches!(talk.config.connector.shows(), Shows::Certificate(_)) => {
            (FaultKind::Forbidden, format!("{} does not let {user}@{domain} in with its certificate", talk.server()))
        }
        _ => (FaultKind::Forbidden, format!("wrong password for {user}@{domain}, or there is no such account")),
    };
    Fault::new(kind, message).because(text.unwrap_or_else(|| condition.to_owned()))
}
