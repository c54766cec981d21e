//! The log, on standard error and its last lines in memory; spans to a collector with the feature `otlp`.

use crate::clock::MachineClock;
use crate::config::{LogFormat, Settings};
use archipel_contract::Fault;
use archipel_contract::hypervisor::{LogLevel, LogLine};
use archipel_contract::port::Clock;
use archipel_supervisors::diary::DIARY;
use std::fmt::Write as _;
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Keeps the way to the collector open; what is buffered is sent when it is dropped.
pub(crate) struct Telemetry {
    #[cfg(feature = "otlp")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Puts every line into the diary too.
struct ToDiary;

/// The message first, then the fields as they stand in the log.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a text cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl<S: tracing::Subscriber> Layer<S> for ToDiary {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => LogLevel::Error,
            tracing::Level::WARN => LogLevel::Warn,
            tracing::Level::INFO => LogLevel::Info,
            _ => LogLevel::Debug,
        };
        let part = event.metadata().target().to_owned();
        DIARY.enter(LogLine { at: MachineClock::new().now(), level, part, text: text.message + &text.fields });
    }
}

/// Starts logging. Must be called once.
pub(crate) fn start(settings: &Settings) -> Result<Telemetry, Fault> {
    let filter: Targets = settings.log_filter.parse().map_err(|e| Fault::invalid("log.filter cannot be used").because(e))?;
    let kept = filter.clone();
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.log_format {
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_filter(filter).boxed(),
        LogFormat::Json => fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).with_filter(filter).boxed(),
    };
    let registry = tracing_subscriber::registry().with(vec![lines, ToDiary.with_filter(kept).boxed()]);
    #[cfg(feature = "otlp")]
    let (registry, provider) = {
        let provider = settings.otlp.as_deref().map(exporter).transpose()?;
        let spans = provider.as_ref().map(|provider| {
            let tracer = opentelemetry::trace::TracerProvider::tracer(provider, "archipeld");
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(tracing_subscriber::filter::LevelFilter::INFO)
        });
        (registry.with(spans), provider)
    };
    registry.try_init().map_err(|e| Fault::internal("the log was started twice").because(e))?;
    Ok(Telemetry {
        #[cfg(feature = "otlp")]
        provider,
    })
}

#[cfg(feature = "otlp")]
fn exporter(endpoint: &str) -> Result<opentelemetry_sdk::trace::SdkTracerProvider, Fault> {
    use opentelemetry_otlp::WithExportConfig;
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(endpoint).build().map_err(|e| {
        Fault::invalid("log.otlp cannot be used; give the whole address, for example http://127.0.0.1:4318/v1/traces").because(e)
    })?;
    let resource = opentelemetry_sdk::Resource::builder().with_service_name("archipeld").build();
    // The exporter blocks, and the batch processor gives it a thread of its own.
    Ok(opentelemetry_sdk::trace::SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        #[cfg(feature = "otlp")]
        if let Some(Err(error)) = self.provider.as_ref().map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans may be lost");
        }
    }
}
