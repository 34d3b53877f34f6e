<?php
// A Laravel application of one file: configuration from .env, a Mailable with Blade views,
// the Mail facade. Laravel's classes are those that Debian installs.
require_once 'Illuminate/autoload.php';
require_once 'Dotenv/autoload.php';

use Illuminate\Support\Facades\Mail;

class WelcomeEmail extends Illuminate\Mail\Mailable
{
    public function build()
    {
        return $this->subject('Hello from Laravel')->view('welcome')->text('welcome-text');
    }
}

$app = new Illuminate\Foundation\Application(__DIR__);
(new Illuminate\Foundation\Bootstrap\LoadEnvironmentVariables)->bootstrap($app);
// config/mail.php and config/view.php as a new application has them
$app->instance('config', new Illuminate\Config\Repository([
    'app' => ['name' => env('APP_NAME')],
    'mail' => [
        'default' => env('MAIL_MAILER', 'smtp'),
        'mailers' => ['smtp' => [
            'transport' => 'smtp',
            'host' => env('MAIL_HOST', 'smtp.mailgun.org'),
            'port' => env('MAIL_PORT', 587),
            'encryption' => env('MAIL_ENCRYPTION', 'tls'),
            'username' => env('MAIL_USERNAME'),
            'password' => env('MAIL_PASSWORD'),
        ]],
        'from' => ['address' => env('MAIL_FROM_ADDRESS'), 'name' => env('MAIL_FROM_NAME')],
    ],
    'view' => ['paths' => [__DIR__ . '/views'], 'compiled' => __DIR__],
]));
foreach (['Events\EventServiceProvider', 'Filesystem\FilesystemServiceProvider',
          'View\ViewServiceProvider', 'Mail\MailServiceProvider'] as $provider) {
    $app->register("Illuminate\\$provider");
}
Illuminate\Support\Facades\Facade::setFacadeApplication($app);

try {
    Mail::to('recipient@example.com')->send(new WelcomeEmail());
    echo 'Email sent successfully!';
} catch (Exception $e) {
    echo $e->getMessage();
    exit(1);
}
